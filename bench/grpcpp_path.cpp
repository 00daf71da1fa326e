// SPDX-License-Identifier: Apache-2.0
// broker → logger → store as path has it over grpc, with grpc++ (callback API) on both sides: what that is measured against.
//   grpcpp_path logger <null|file>
//   grpcpp_path broker <grpc://logger>
// They say "ready <endpoint>" and end with their standard input. The load is that of path.
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <iostream>
#include <thread>

#include "bench_store.hpp"
#include "flexiconnect/v1/flexiconnect.grpc.pb.h"
#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"

namespace {

namespace asio = boost::asio;
namespace core = flexi::core;
namespace runtime = flexi::runtime;
namespace v1 = flexiconnect::v1;

template <class Service>
void serve_until_told(Service& service) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  if (!server) throw std::runtime_error("can't listen");
  std::cout << "ready grpc://127.0.0.1:" << port << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
}

class Logger final : public v1::Logger::CallbackService {
 public:
  Logger(core::LogStore& store, bool at_once) : store_(store), at_once_(at_once), shards_(1), scope_(shards_.executor(0), "appends", log_) {}
  ~Logger() override { shards_.join(); }

 private:
  grpc::ServerUnaryReactor* WriteLog(grpc::CallbackServerContext* context, const v1::LogEntry* entry, v1::Reply* reply) override {
    auto* reactor = context->DefaultReactor();
    core::LogRecord record;
    record.id = core::MessageId::generate();
    record.name = entry->name();
    record.data = entry->data();
    record.created_at = record.updated_at = std::chrono::system_clock::now();
    reply->set_message("logged");
    reply->set_id(record.id.str());
    if (at_once_) {
      reactor->Finish(grpc::Status::OK);
      return reactor;
    }
    asio::post(shards_.executor(0), [this, reactor, record = std::move(record)]() mutable { scope_.spawn(append(reactor, std::move(record))); });
    return reactor;
  }

  core::awaitable<void> append(grpc::ServerUnaryReactor* reactor, core::LogRecord record) {
    const auto stored = co_await store_.append(std::move(record), core::CallContext::with_timeout(std::chrono::seconds(20)));
    reactor->Finish(stored ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNAVAILABLE, stored.error().message));
  }

  core::LogStore& store_;
  const bool at_once_;
  runtime::LogSink log_{runtime::LogLevel::error, runtime::LogFormat::json};
  runtime::Shards shards_;
  runtime::TaskScope scope_;
};

class Broker final : public v1::Broker::CallbackService {
 public:
  explicit Broker(const std::string& target) {
    // A connection per core, as ours has them.
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      stubs_.push_back(v1::Logger::NewStub(grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments)));
    }
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::LogEntry entry;
  };

  grpc::ServerUnaryReactor* Handle(grpc::CallbackServerContext* context, const v1::HandleRequest* request, v1::Reply* reply) override {
    auto* reactor = context->DefaultReactor();
    if (!request->has_log()) {
      reply->set_message("Hit the broker");
      reactor->Finish(grpc::Status::OK);
      return reactor;
    }
    auto call = std::make_shared<Call>();
    call->entry = request->log();
    call->context.set_deadline(context->deadline());
    call->context.AddMetadata("x-flexi-id", core::MessageId::generate().str());
    auto& stub = *stubs_[next_++ % stubs_.size()];
    stub.async()->WriteLog(&call->context, &call->entry, reply, [call, reactor, reply](grpc::Status status) {
      reply->set_way("grpc");
      reactor->Finish(std::move(status));
    });
    return reactor;
  }

  std::vector<std::unique_ptr<v1::Logger::Stub>> stubs_;
  std::atomic<std::size_t> next_ = 0;
};

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 2 && arguments[0] == "logger") {
    flexi::bench::Store store(arguments[1], runtime::LogSink::none());
    Logger logger(*store.logs, arguments[1] == "null");
    serve_until_told(logger);
    return 0;
  }
  if (arguments.size() == 2 && arguments[0] == "broker") {
    Broker broker(arguments[1].substr(arguments[1].find("://") == std::string::npos ? 0 : arguments[1].find("://") + 3));
    serve_until_told(broker);
    return 0;
  }
  std::cerr << "grpcpp_path logger <null|file> | broker <endpoint>\n";
  return 2;
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
