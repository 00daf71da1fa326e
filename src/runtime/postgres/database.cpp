// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/database.hpp"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/postgres/pool.hpp"

namespace flexi::runtime::postgres {

namespace asio = boost::asio;

Database::Database(PostgresOptions options, asio::any_io_executor home, LogSink& log, Metrics& metrics,
                   std::function<void(const core::Error*)> on_health)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(home), log, metrics, std::move(on_health))) {}
Database::~Database() = default;

void Database::add(Schema schema) { impl_->add(std::move(schema)); }
void Database::start() { impl_->start(); }
core::awaitable<void> Database::stop() { return impl_->stop(); }
std::size_t Database::writes_under_way() const { return impl_->writes_under_way(); }

core::awaitable<core::Result<std::vector<Rows>>> Database::write(std::vector<Query> queries, core::CallContext context) {
  return Impl::call(impl_, std::move(queries), true, std::move(context));
}

core::awaitable<core::Result<Rows>> Database::read(Query query, core::CallContext context) {
  std::vector<Query> queries;
  queries.push_back(std::move(query));
  auto rows = co_await Impl::call(impl_, std::move(queries), false, std::move(context));
  if (!rows) co_return rows.error();
  co_return std::move(rows.value().front());
}

}  // namespace flexi::runtime::postgres
