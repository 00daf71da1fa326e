// SPDX-License-Identifier: Apache-2.0
// Bare bcrypt: how many of the example user's logins crypt(3) alone checks a second, on so many threads at once.
//   bcrypt_bench THREADS SECONDS
#include <crypt.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: bcrypt_bench THREADS SECONDS\n"), 2;
  constexpr const char* kHash = "$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe";
  using Clock = std::chrono::steady_clock;
  const auto began = Clock::now(), until = began + std::chrono::seconds(std::atoi(argv[2]));
  std::atomic<int> checked{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[1]); ++i)
    threads.emplace_back([&] {
      const auto data = std::make_unique<crypt_data>();
      while (Clock::now() < until) {
        const char* hash = ::crypt_r("verysecret", kHash, data.get());
        if (!hash || std::strcmp(hash, kHash) != 0) std::abort();
        ++checked;
      }
    });
  for (auto& thread : threads) thread.join();
  std::printf("%f\n", checked / std::chrono::duration<double>(Clock::now() - began).count());
}
