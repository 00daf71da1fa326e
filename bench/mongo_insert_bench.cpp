// SPDX-License-Identifier: Apache-2.0
// `mongo_insert_bench URI DATABASE THREADS SECONDS DOCUMENTS` prints documents/s, DOCUMENTS in each insert: 1 as a service without group commit does
// it, more to see what the server takes.
#include <mongoc/mongoc.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<bool> failed{false};

/// @return documents that the majority has
long insert_until(mongoc_client_pool_t* pool, const char* database, std::chrono::steady_clock::time_point end, std::size_t batch) {
  mongoc_client_t* client = mongoc_client_pool_pop(pool);
  mongoc_collection_t* logs = mongoc_client_get_collection(client, database, "logs");
  mongoc_write_concern_t* concern = mongoc_write_concern_new();
  mongoc_write_concern_set_wmajority(concern, 10'000);
  mongoc_write_concern_set_journal(concern, true);
  mongoc_collection_set_write_concern(logs, concern);
  const std::string data(100, 'x');
  long count = 0;
  std::vector<bson_t*> documents(batch);
  while (std::chrono::steady_clock::now() < end && !failed) {
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    for (auto& document : documents)
      document = BCON_NEW("name", BCON_UTF8("event"), "data", BCON_UTF8(data.c_str()), "created_at", BCON_DATE_TIME(now), "updated_at", BCON_DATE_TIME(now));
    bson_error_t error;
    std::vector<const bson_t*> whole(documents.begin(), documents.end());
    if (mongoc_collection_insert_many(logs, whole.data(), batch, nullptr, nullptr, &error)) count += static_cast<long>(batch);
    else if (!failed.exchange(true)) std::fprintf(stderr, "%s\n", error.message);
    for (auto* document : documents) bson_destroy(document);
  }
  mongoc_write_concern_destroy(concern);
  mongoc_collection_destroy(logs);
  mongoc_client_pool_push(pool, client);
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6 || std::atoi(argv[5]) < 1) return std::fprintf(stderr, "mongo_insert_bench URI DATABASE THREADS SECONDS DOCUMENTS\n"), 2;
  mongoc_init();
  mongoc_log_set_handler(nullptr, nullptr);
  mongoc_uri_t* uri = mongoc_uri_new(argv[1]);
  mongoc_client_pool_t* pool = uri ? mongoc_client_pool_new(uri) : nullptr;
  if (!pool) return std::fprintf(stderr, "no URI of MongoDB's: %s\n", argv[1]), 2;
  const auto begin = std::chrono::steady_clock::now();
  const auto end = begin + std::chrono::seconds(std::atoi(argv[4]));
  std::atomic<long> inserted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[3]); ++i) threads.emplace_back([&] { inserted += insert_until(pool, argv[2], end, static_cast<std::size_t>(std::atoi(argv[5]))); });
  for (auto& thread : threads) thread.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%f\n", static_cast<double>(inserted) / took.count());
  mongoc_client_pool_destroy(pool);
  mongoc_uri_destroy(uri);
  mongoc_cleanup();
  return failed ? 1 : 0;
}
