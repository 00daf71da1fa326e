// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/method.hpp"

#include <cstdio>
#include <cstdlib>

namespace flexi::transports::grpc {

namespace {
[[noreturn]] void abort_twice(const std::string& path) {
  std::fprintf(stderr, "bug: gRPC method '%s' is there twice\n", path.c_str());
  std::abort();
}
}  // namespace

void MethodTable::add_unary(std::string path, UnaryMethod method) {
  if (entries_.contains(path)) abort_twice(path);
  entries_.emplace(std::move(path), Entry{.unary = std::move(method)});
}

void MethodTable::add_stream(std::string path, StreamMethod method, Lasts lasts) {
  if (entries_.contains(path)) abort_twice(path);
  entries_.emplace(std::move(path), Entry{.stream = std::move(method), .lasts = lasts});
}

const MethodTable::Entry* MethodTable::find(std::string_view path) const {
  const auto found = entries_.find(path);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace flexi::transports::grpc
