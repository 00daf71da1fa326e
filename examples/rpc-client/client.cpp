// SPDX-License-Identifier: Apache-2.0
// A client of FlexiConnect's RPC that knows schemas/flexiconnect.capnp only.  client [HOST:PORT]
#include <capnp/ez-rpc.h>

#include <iostream>

#include "flexiconnect.capnp.h"

int main(int argc, char** argv) {
  capnp::EzRpcClient connection(argc > 1 ? argv[1] : "127.0.0.1:5001");
  auto table = connection.getMain<flexiconnect::ExportTable>();
  // Not awaited: get() and the first call on what it gives travel together. Keep the object for the next calls.
  auto get = table.getRequest();
  get.setName("Broker");
  auto broker = get.send().getObject().castAs<flexiconnect::Broker>();

  auto call = broker.handleRequest();
  auto entry = call.initRequest().getPayload().initLog();
  entry.setName("event");
  entry.setData("Some kind of RPC data");
  auto meta = call.initMeta();
  meta.setId("order-17");                     // called again with it, it is the same message
  meta.setAck(flexiconnect::Ack::STORED);     // answered once the logger has it
  meta.setVia(flexiconnect::Via::AUTO);
  meta.setTimeoutMs(2000);

  auto answer = call.send().wait(connection.getWaitScope());  // dropping the promise would cancel the call
  if (answer.isError()) {
    std::cerr << "error " << static_cast<int>(answer.getError().getKind()) << ": " << answer.getError().getMessage().cStr() << '\n';
    return 1;
  }
  auto ok = answer.getOk();
  std::cout << ok.getMessage().cStr() << " (way " << ok.getWay().cStr() << ", id " << ok.getId().cStr() << ")\n";
}
