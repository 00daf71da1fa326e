// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/reflection.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>

#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"

namespace flexi::transports::grpc {

namespace pb = ::google::protobuf;

namespace {

/// The file that defines a service, method, message, field or enum; null where there is none.
const pb::FileDescriptor* file_of(const std::string& symbol) { return pb::DescriptorPool::generated_pool()->FindFileContainingSymbol(symbol); }

/// `file` and all that it imports, each once.
template <class Response>
void add_files(const pb::FileDescriptor& file, std::set<const pb::FileDescriptor*>& sent, Response& response) {
  if (!sent.insert(&file).second) return;
  pb::FileDescriptorProto proto;
  file.CopyTo(&proto);
  response.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) add_files(*file.dependency(i), sent, response);
}

template <class Response>
void fail(Code code, const std::string& message, Response& response) {
  auto& error = *response.mutable_error_response();
  error.set_error_code(static_cast<int>(code));
  error.set_error_message(message);
}

template <class Response>
void answer_with(const pb::FileDescriptor* file, const std::string& what, Response& response) {
  if (!file) return fail(Code::not_found, what + " is not known here", response);
  // A file that is asked for is sent, though it was sent before; what it imports need not be.
  std::set<const pb::FileDescriptor*> sent;
  add_files(*file, sent, *response.mutable_file_descriptor_response());
}

template <class Request, class Response>
void answer(const std::vector<std::string>& services, const Request& request, Response& response) {
  const auto& pool = *pb::DescriptorPool::generated_pool();
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kFileByFilename: return answer_with(pool.FindFileByName(request.file_by_filename()), request.file_by_filename(), response);
    case Request::kFileContainingSymbol: return answer_with(file_of(request.file_containing_symbol()), request.file_containing_symbol(), response);
    case Request::kFileContainingExtension: {
      const auto& wanted = request.file_containing_extension();
      const auto* type = pool.FindMessageTypeByName(wanted.containing_type());
      const auto* extension = type ? pool.FindExtensionByNumber(type, wanted.extension_number()) : nullptr;
      return answer_with(extension ? extension->file() : nullptr, "the extension", response);
    }
    case Request::kAllExtensionNumbersOfType: {
      const auto* type = pool.FindMessageTypeByName(request.all_extension_numbers_of_type());
      if (!type) return fail(Code::not_found, request.all_extension_numbers_of_type() + " is not known here", response);
      std::vector<const pb::FieldDescriptor*> extensions;
      pool.FindAllExtensions(type, &extensions);
      response.mutable_all_extension_numbers_response()->set_base_type_name(type->full_name());
      for (auto* extension : extensions) response.mutable_all_extension_numbers_response()->add_extension_number(extension->number());
      return;
    }
    case Request::kListServices:
      response.mutable_list_services_response();
      for (auto& service : services) response.mutable_list_services_response()->add_service()->set_name(service);
      return;
    case Request::MESSAGE_REQUEST_NOT_SET: break;
  }
  fail(Code::invalid_argument, "the request asks for nothing that is known here", response);
}

template <class Request, class Response>
core::awaitable<Status> reflect(const std::vector<std::string>& services, ServerCall& call) {
  for (;;) {
    auto bytes = co_await call.read();
    if (!bytes) co_return to_status(bytes.error());
    if (!bytes.value()) co_return Status();
    Request request;
    if (!request.ParseFromString(*bytes.value())) co_return Status{Code::invalid_argument, "the message is not a ServerReflectionRequest"};
    Response response;
    answer(services, request, response);
    auto written = co_await call.write(response.SerializeAsString());
    if (!written) co_return to_status(written.error());
  }
}

}  // namespace

void add_reflection(MethodTable& table, std::vector<std::string> services) {
  namespace v1 = ::grpc::reflection::v1;
  namespace v1alpha = ::grpc::reflection::v1alpha;
  auto names = std::make_shared<const std::vector<std::string>>(std::move(services));
  // A tool keeps its stream open as long as it likes: a stopping server does not wait for it.
  table.add_stream(
      "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      [names](ServerCall& call) { return reflect<v1::ServerReflectionRequest, v1::ServerReflectionResponse>(*names, call); }, Lasts::subscription);
  table.add_stream(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      [names](ServerCall& call) { return reflect<v1alpha::ServerReflectionRequest, v1alpha::ServerReflectionResponse>(*names, call); }, Lasts::subscription);
}

}  // namespace flexi::transports::grpc
