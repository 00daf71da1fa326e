// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/transfer.hpp"

#include <boost/asio/this_coro.hpp>

#include "runtime/task_scope.hpp"

namespace flexi::apps::transfer {

namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Result;

namespace {

constexpr auto kPatience = std::chrono::seconds(60);  ///< for one page, or one batch
constexpr unsigned kPage = 500;

CallContext a_call() { return CallContext::with_timeout(kPatience); }

void tell(const Progress& progress, std::string_view what, std::optional<int> percent) {
  if (progress) progress(what, percent);
}

awaitable<Result<void>> write_users(core::UserStore& users, ExportWriter& file) {
  auto all = co_await users.list(a_call());
  if (!all) co_return all.error();
  for (auto& user : all.value())
    if (auto added = file.add(user); !added) co_return added.error();
  co_return core::ok();
}

awaitable<Result<void>> write_logs(core::LogStore& logs, ExportWriter& file, Progress progress) {
  auto count = co_await logs.count(a_call());
  if (!count) co_return count.error();
  core::LogQuery query{.limit = kPage, .cursor = file.state().cursor};
  for (;;) {
    auto page = co_await logs.list(query, a_call());
    if (!page) co_return page.error();
    for (auto& record : page.value().records)
      if (auto added = file.add(record); !added) co_return added.error();
    const auto done = file.state().counts.logs;
    const auto all = count.value() ? std::max(*count.value(), done) : 0;
    tell(progress, std::to_string(done) + " log entries", all > 0 ? std::optional(static_cast<int>(done * 100 / all)) : std::nullopt);
    if (page.value().next.empty()) co_return core::ok();
    query.cursor = std::move(page.value().next);
    if (auto noted = file.checkpoint(query.cursor); !noted) co_return noted.error();
  }
}

/// Some entries of a file on their way into the stores, all at once: what a store commits together costs one commit.
class Batch {
 public:
  Batch(TransferStores to, const ImportOptions& options, asio::any_io_executor executor, runtime::LogSink& log)
      : to_(to), options_(options), scope_(std::move(executor), "import", log) {}

  bool full() const { return entries_.size() >= options_.batch || bytes_ >= options_.batch_bytes; }
  void add(ExportReader::Entry entry) {
    if (auto* record = std::get_if<core::LogRecord>(&entry)) bytes_ += record->name.size() + record->data.size() + record->hops.size();
    entries_.push_back(std::move(entry));
  }
  awaitable<Result<void>> store() {
    for (auto& entry : entries_) scope_.spawn(store_one(entry));
    co_await scope_.join();
    entries_.clear();
    bytes_ = 0;
    if (failure_) co_return *failure_;
    co_return core::ok();
  }
  Imported take() { return std::move(imported_); }

 private:
  awaitable<void> store_one(ExportReader::Entry& entry) {
    if (auto* user = std::get_if<core::User>(&entry)) {
      const auto name = "user " + std::to_string(user->id) + " (" + user->email + ")";
      auto restored = co_await to_.users->restore(std::move(*user), a_call());
      if (!restored) co_return failed(name, restored.error());
      ++(restored.value() == core::Restored::added ? imported_.added : imported_.there).users;
    } else if (auto* record = std::get_if<core::LogRecord>(&entry)) {
      const auto name = "log entry " + record->id.str();
      auto appended = co_await to_.logs->append(std::move(*record), a_call());
      if (!appended) co_return failed(name, appended.error());
      ++(appended.value() == core::Appended::stored ? imported_.added : imported_.there).logs;
    }
  }
  void failed(const std::string& name, const core::Error& error) {
    if (error.kind != core::ErrorKind::conflict) {
      if (!failure_) failure_ = error;
      return;
    }
    if (++imported_.conflicts <= options_.named_conflicts) imported_.conflicting.push_back(name + ": " + error.message);
  }

  TransferStores to_;
  const ImportOptions& options_;
  runtime::TaskScope scope_;
  std::vector<ExportReader::Entry> entries_;
  std::size_t bytes_ = 0;
  std::optional<core::Error> failure_;
  Imported imported_;
};

bool concerned(const ExportReader::Entry& entry, TransferStores to) {
  return std::holds_alternative<core::User>(entry) ? to.users != nullptr : to.logs != nullptr;
}

Result<void> check(ExportReader& file, const Progress& progress) {
  int told = -1;
  for (;;) {
    FLEXI_TRY(auto entry, file.next());
    if (!entry) return file.rewind();
    if (file.percent() != std::exchange(told, file.percent())) tell(progress, "checking the file", told);
  }
}

}  // namespace

awaitable<Result<ExportCounts>> write_export(TransferStores from, ExportWriter& file, Progress progress) {
  if (!file.state().begun) {
    if (from.users)
      if (auto written = co_await write_users(*from.users, file); !written) co_return written.error();
    if (auto noted = file.checkpoint(""); !noted) co_return noted.error();
  }
  if (from.logs)
    if (auto written = co_await write_logs(*from.logs, file, progress); !written) co_return written.error();
  if (auto finished = file.finish(); !finished) co_return finished.error();
  co_return file.state().counts;
}

awaitable<Result<Imported>> read_export(ExportReader& file, TransferStores to, ImportOptions options, Progress progress, runtime::LogSink& log) {
  if (auto whole = check(file, progress); !whole) co_return whole.error();
  Batch batch(to, options, co_await asio::this_coro::executor, log);
  for (bool left = true; left;) {
    auto entry = file.next();
    if (!entry) co_return entry.error();
    left = entry.value().has_value();
    if (left && concerned(*entry.value(), to)) batch.add(std::move(*entry.value()));
    if (left && !batch.full()) continue;
    if (auto stored = co_await batch.store(); !stored) co_return stored.error();
    tell(progress, std::to_string(file.counts().logs) + " log entries", file.percent());
  }
  co_return batch.take();
}

}  // namespace flexi::apps::transfer
