// SPDX-License-Identifier: Apache-2.0
// The server as seen by a client that sends what it likes.
#include "transports/rpc/raw_peer.hpp"
#include "transports/rpc/test_support.hpp"

namespace flexi::transports::rpc {
namespace {

using testing::HasSubstr;

/// Bootstrap (question 0) and get(name) (question 1), neither awaited.
std::string opening(const char* name) { return bootstrap(0) + call_get(1, 0, name); }

/// 200 structs, each in the one before it.
void nest(capnp::AnyPointer::Builder pointer) {
  auto inner = pointer.initAsAnyStruct(0, 1);
  for (int i = 0; i < 200; ++i) inner = inner.getPointerSection()[0].initAsAnyStruct(0, 1);
}

class RpcRaw : public RpcTest {
 protected:
  /// Another client's call goes through.
  void expect_well() {
    RawPeer other(port);
    other.send(opening("Logger") + call_log(2, 1, "well"));
    EXPECT_TRUE(other.answered(2, [](auto answer) { EXPECT_TRUE(answer_of(answer).isOk()); }));
  }
};

TEST_F(RpcRaw, BootstrapGetAndTheFirstCallTakeOneRoundTrip) {
  serve();
  RawPeer peer(port);
  peer.send(opening("Logger") + call_log(2, 1, "hello", [](auto meta) { meta.setId("id-1"); }));
  ASSERT_TRUE(peer.answered(2, [](auto answer) {
    const auto ok = answer_of(answer).getOk();
    EXPECT_STREQ(ok.getMessage().cStr(), "Processed payload via RPC:n");
    EXPECT_STREQ(ok.getData().cStr(), "\"hello\"");
    EXPECT_STREQ(ok.getId().cStr(), "id-1");
  }));
  EXPECT_EQ(mirror.last.id.str(), "id-1");
  EXPECT_EQ(mirror.last.action, "log");
}

TEST_F(RpcRaw, OneByteAtATime) {
  serve();
  RawPeer peer(port);
  for (char byte : opening("Logger") + call_log(2, 1, "slowly")) peer.send({&byte, 1});
  EXPECT_TRUE(peer.answered(2, [](auto answer) { EXPECT_TRUE(answer_of(answer).isOk()); }));
}

TEST_F(RpcRaw, AnUnknownObjectIsUnimplemented) {
  services = false;
  serve();
  RawPeer peer(port);
  peer.send(opening("Logger"));
  EXPECT_TRUE(peer.answered(1, [](auto answer) {
    ASSERT_TRUE(answer.isException());
    EXPECT_EQ(answer.getException().getType(), capnp::rpc::Exception::Type::UNIMPLEMENTED);
  }));
}

TEST_F(RpcRaw, AMethodThatDoesNotExistIsUnimplemented) {
  serve();
  RawPeer peer(port);
  peer.send(bootstrap(0) + message_of([](auto m) {
              auto call = m.initCall();
              aim(call, 1, 0, false);
              call.setInterfaceId(0x1234567890abcdefu);
              call.initParams();
            }));
  EXPECT_TRUE(peer.answered(1, [](auto answer) { EXPECT_EQ(answer.getException().getType(), capnp::rpc::Exception::Type::UNIMPLEMENTED); }));
  expect_well();
}

TEST_F(RpcRaw, GarbageEndsItsConnectionOnly) {
  serve();
  for (std::string garbage : {std::string(64, '\xff'), std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("\0\0\0\0\1\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16)}) {
    RawPeer peer(port);
    peer.send(garbage);
    EXPECT_TRUE(peer.closed());
    expect_well();
  }
}

TEST_F(RpcRaw, WhatBreaksTheProtocolIsToldAndClosed) {
  serve();
  const auto twice = bootstrap(7) + bootstrap(7);
  const auto unknown_target = message_of([](auto m) {
    auto call = m.initCall();
    call.initTarget().setImportedCap(99);
    call.initParams();
  });
  const auto stray_finish = finish(3);
  const auto stray_release = message_of([](auto m) { m.initRelease().setId(5); });
  const auto stray_return = message_of([](auto m) { m.initReturn().setAnswerId(5); });
  const auto stray_resolve = message_of([](auto m) { m.initResolve().initCap().setReceiverHosted(77); });
  const auto bad_disembargo = message_of([](auto m) {
    auto disembargo = m.initDisembargo();
    disembargo.initTarget().initPromisedAnswer().setQuestionId(9);
    disembargo.getContext().setSenderLoopback(1);
  });
  for (auto& bytes : {twice, unknown_target, stray_finish, stray_release, stray_return, bad_disembargo}) {
    RawPeer peer(port);
    peer.send(bytes);
    EXPECT_TRUE(peer.closed());
    EXPECT_NE(peer.abort(), "");
    expect_well();
  }
  RawPeer peer(port);
  peer.send(stray_resolve);
  expect_well();
}

TEST_F(RpcRaw, AnUnknownKindOfMessageIsUnimplementedNotFatal) {
  serve();
  RawPeer peer(port);
  peer.send(message_of([](auto m) { m.initProvide().setQuestionId(5); }) + opening("Logger") + call_log(2, 1, "still here"));
  EXPECT_TRUE(peer.answered(2));
}

TEST_F(RpcRaw, ATruncatedMessageWaitsThenCloses) {
  options.message_timeout = 100ms;
  serve();
  RawPeer peer(port);
  peer.send(opening("Logger").substr(0, 60));
  EXPECT_TRUE(peer.closed());
  expect_well();
}

TEST_F(RpcRaw, SilenceClosesTheConnection) {
  options.handshake_timeout = 60ms;
  options.idle_timeout = 120ms;
  serve();
  RawPeer silent(port), idle(port);
  idle.send(opening("Logger"));
  EXPECT_TRUE(idle.answered(1));
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(idle.closed());
}

TEST_F(RpcRaw, ARunningCallKeepsItsConnection) {
  options.idle_timeout = 60ms;
  serve();
  RawPeer peer(port);
  peer.send(opening("Actions") + call_action(2, 1, "wait"));
  wait_until([&] { return mirror.waiting == 1; });
  const auto from = std::chrono::steady_clock::now();
  wait_until([&] { return std::chrono::steady_clock::now() > from + 300ms; });
  mirror.released = true;
  EXPECT_TRUE(peer.answered(2, [](auto answer) { EXPECT_STREQ(answer_of(answer).getOk().getMessage().cStr(), "released"); }));
}

TEST_F(RpcRaw, PayloadsOverTheLimitAreRefusedMessagesOverItEndTheConnection) {
  options.max_payload_bytes = 1000;
  serve();
  RawPeer peer(port);
  peer.send(opening("Logger") + call_log(2, 1, std::string(1000, 'x')) + call_log(3, 1, std::string(999, 'x')));
  EXPECT_TRUE(peer.answered(2, [](auto answer) { EXPECT_EQ(answer_of(answer).getError().getKind(), ::flexiconnect::ErrorKind::INVALID_ARGUMENT); }));
  EXPECT_TRUE(peer.answered(3, [](auto answer) { EXPECT_TRUE(answer_of(answer).isOk()); }));
  EXPECT_EQ(mirror.calls, 1);
  peer.send(call_log(4, 1, std::string(100'000, 'x')));
  EXPECT_TRUE(peer.closed());
  EXPECT_THAT(peer.abort(), HasSubstr("larger than"));
  expect_well();
}

TEST_F(RpcRaw, NestingOverTheLimitFailsTheCall) {
  serve();
  RawPeer peer(port);
  peer.send(bootstrap(0) + message_of([](auto m) {
              auto call = m.initCall();
              aim(call, 1, 0, false);
              call.setInterfaceId(capnp::typeId<::flexiconnect::ExportTable>());
              nest(call.initParams().getContent());
            }));
  // The name is no text.
  EXPECT_TRUE(peer.answered(1, [](auto answer) { EXPECT_TRUE(answer.isException()); }));
  // Echoed as unimplemented, it would be walked to its end.
  peer.send(message_of([](auto m) {
    nest(m.initProvide().initRecipient());
  }));
  EXPECT_TRUE(peer.closed());
  EXPECT_THAT(peer.abort(), HasSubstr("nested"));
  expect_well();
}

TEST_F(RpcRaw, ACapabilityBombEndsItsConnection) {
  options.max_unreleased = 100;
  serve();
  {
    RawPeer peer(port);
    for (unsigned i = 0; i < 200; ++i) peer.send(bootstrap(i));
    EXPECT_TRUE(peer.closed());
    EXPECT_THAT(peer.abort(), HasSubstr("not released"));
  }
  {
    RawPeer peer(port);
    peer.send(bootstrap(0));
    for (unsigned i = 1; i < 200; ++i) peer.send(call_get(i, 0, "Logger"));
    EXPECT_TRUE(peer.closed());
    EXPECT_THAT(peer.abort(), HasSubstr("not released"));
  }
  // As many as it likes, where each is finished.
  RawPeer peer(port);
  for (unsigned i = 0; i < 1000; ++i) peer.send(bootstrap(i) + finish(i));
  peer.send(opening("Logger") + call_log(2, 1, "x"));
  EXPECT_TRUE(peer.answered(2));
  expect_well();
}

TEST_F(RpcRaw, ANumberUsedTwiceLeavesNoCallBehind) {
  serve();
  for (auto& again : {call_action(3, 1, "wait"), finish(3) + call_action(3, 1, "wait"), bootstrap(3)}) {
    RawPeer peer(port);
    peer.send(opening("Actions") + call_action(3, 1, "wait") + again);
    if (again.size() < 200) EXPECT_TRUE(peer.closed());
    peer.close();
    wait_until([&] { return mirror.cancelled == mirror.waiting && connections() == 0; });
  }
  expect_well();
}

TEST_F(RpcRaw, AnswersAreNotKeptForThePeer) {
  serve();
  RawPeer peer(port);
  peer.send(bootstrap(0) + message_of([](auto m) {
              auto call = m.initCall();
              aim(call, 1, 0, false);
              call.setInterfaceId(capnp::typeId<::flexiconnect::ExportTable>());
              call.initParams();
              call.getSendResultsTo().setYourself();
            }));
  EXPECT_TRUE(peer.closed());
  EXPECT_THAT(peer.abort(), HasSubstr("to the caller only"));
  expect_well();
}

TEST_F(RpcRaw, AMessageFullOfCapabilitiesEndsItsConnection) {
  serve();
  RawPeer peer(port);
  peer.send(bootstrap(0) + message_of([](auto m) {
              auto call = m.initCall();
              aim(call, 1, 0, false);
              auto table = call.initParams().initCapTable(10'000);
              for (unsigned i = 0; i < table.size(); ++i) table[i].setSenderHosted(i);
            }));
  EXPECT_TRUE(peer.closed());
  EXPECT_THAT(peer.abort(), HasSubstr("capabilities"));
  expect_well();
}

TEST_F(RpcRaw, CallsOverTheLimitAreOverloaded) {
  options.max_connection_calls = 10;
  options.max_calls = 15;
  serve();
  RawPeer first(port), second(port);
  const auto overloaded = [](auto answer) {
    const auto error = answer_of(answer).getError();
    EXPECT_EQ(error.getKind(), ::flexiconnect::ErrorKind::OVERLOADED);
    EXPECT_EQ(error.getRetryAfterMs(), 1000);
    EXPECT_FALSE(error.getSentMaybe());
  };
  first.send(opening("Actions"));
  for (unsigned i = 2; i < 13; ++i) first.send(call_action(i, 1, "wait"));
  EXPECT_TRUE(first.answered(12, overloaded));
  second.send(opening("Actions"));
  for (unsigned i = 2; i < 8; ++i) second.send(call_action(i, 1, "wait"));
  EXPECT_TRUE(second.answered(7, overloaded));
  EXPECT_EQ(mirror.waiting, 15);
  mirror.released = true;
  EXPECT_TRUE(first.answered(11));
}

TEST_F(RpcRaw, ConnectionsOverTheLimitAreToldSo) {
  options.max_connections = 2;
  serve();
  RawPeer one(port), two(port);
  one.send(opening("Logger"));
  two.send(opening("Logger"));
  EXPECT_TRUE(one.answered(1) && two.answered(1));
  RawPeer three(port);
  EXPECT_TRUE(three.closed());
  EXPECT_THAT(three.abort(), HasSubstr("too many connections"));
}

TEST_F(RpcRaw, FinishCancelsTheHandler) {
  serve();
  RawPeer peer(port);
  peer.send(opening("Actions") + call_action(2, 1, "wait"));
  wait_until([&] { return mirror.waiting == 1; });
  peer.send(finish(2));
  wait_until([&] { return mirror.cancelled == 1; });
  peer.send(call_action(3, 1, "after"));
  EXPECT_TRUE(peer.answered(3));
}

TEST_F(RpcRaw, ALostConnectionCancelsItsHandlers) {
  serve();
  for (bool reset : {false, true}) {
    const int waiting = mirror.waiting, cancelled = mirror.cancelled;
    RawPeer peer(port);
    peer.send(opening("Actions") + call_action(2, 1, "wait") + call_action(3, 1, "wait"));
    wait_until([&] { return mirror.waiting == waiting + 2; });
    if (reset) peer.reset();
    else peer.close();
    wait_until([&] { return mirror.cancelled == cancelled + 2; });
  }
  wait_until([&] { return connections() == 0; });
}

TEST_F(RpcRaw, TheDeadlineCancelsTheHandler) {
  serve();
  RawPeer peer(port);
  peer.send(opening("Actions") + call_action(2, 1, "wait", 50));
  EXPECT_TRUE(peer.answered(2, [](auto answer) {
    EXPECT_EQ(answer_of(answer).getError().getKind(), ::flexiconnect::ErrorKind::DEADLINE_EXCEEDED);
    EXPECT_TRUE(answer_of(answer).getError().getSentMaybe());
  }));
  EXPECT_EQ(mirror.cancelled, 1);
}

TEST_F(RpcRaw, AnswersThatNobodyTakesAreFew) {
  options.max_unsent_bytes = 256 * 1024;
  options.max_connection_calls = 64;
  options.write_timeout = 60'000ms;
  serve();
  RawPeer peer(port);
  int small = 128 * 1024;
  ::setsockopt(peer.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  peer.send(opening("Actions"));
  // 100 KB each; far more is asked for than the sockets' buffers, 256 KB and 64 calls hold.
  std::string calls;
  for (unsigned i = 2; i < 300; ++i) calls += call_action(i, 1, "big");
  peer.send(calls);
  wait_until([&, last = -1, same = 0]() mutable {
    same = std::exchange(last, mirror.calls.load()) == mirror.calls ? same + 1 : 0;
    return same == 50 && last > 1;
  });
  expect_well();
  EXPECT_LT(mirror.calls, 200);
  // Once it reads again, all are answered.
  std::size_t answers = 0;
  while (answers < 300) {
    const auto message = peer.next();
    ASSERT_TRUE(message) << "after " << answers;
    if (message->getRoot<Message>().isReturn()) ++answers;
  }
}

TEST_F(RpcRaw, WhoTakesNothingIsClosed) {
  options.max_unsent_bytes = 64 * 1024;
  options.write_timeout = 100ms;
  serve();
  RawPeer peer(port);
  peer.send(opening("Actions"));
  for (unsigned i = 2; i < 300; ++i) peer.send(call_action(i, 1, "big"));
  wait_until([&] { return mirror.calls > 0 && connections() == 0; });
  expect_well();
}

}  // namespace
}  // namespace flexi::transports::rpc
