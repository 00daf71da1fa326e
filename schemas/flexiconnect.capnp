# SPDX-License-Identifier: Apache-2.0
# FlexiConnect's objects over Cap'n Proto RPC, TCP port 5001. docs/rpc.md shows how to call them.
#
# The bootstrap object is an ExportTable. get() may be pipelined with the first call on what it gives, so that a first
# call takes one round trip: table.get("Logger").object.logInfo(…). Keep the connection and the objects.
#
# Evolution: fields, methods and enumerants are only ever added.
@0xb8f1e6a3c9a1d0f5;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("flexiconnect");

interface ExportTable {
  # What a server exports, each object under its type's name.

  get @0 (name :Text) -> (object :Capability);
  # Logger, Authentication, Mail and Actions of a process with services; Broker and Actions of a broker. An object of that
  # name that is not here is the exception UNIMPLEMENTED.

  list @1 () -> (names :List(Text));
}

interface Logger {
  logInfo @0 (entry :LogEntry, meta :Metadata) -> Answer;
  # ok.message is "Processed payload via RPC:<name>" once the entry is stored.
}

interface Authentication {
  authenticate @0 (credentials :Credentials, meta :Metadata) -> Answer;
  # ok.user is the account; wrong credentials are the error `unauthenticated`.
}

interface Mail {
  send @0 (mail :MailMessage, meta :Metadata) -> Answer;
}

interface Broker {
  handle @0 (request :Request, meta :Metadata) -> Answer;
  # Any action, handed to the service that owns it by the way that `meta.via` asks for. ok.way says which way it went.
}

interface Actions {
  call @0 (action :Text, payload :Text, meta :Metadata, events :EventSink) -> Answer;
  # Administration, and actions of a configuration's own; the payload is one JSON value, none is "{}". An action that tails
  # ("logs.tail") wants `events`; it answers at once, and goes on until ok.subscription is dropped.
}

interface EventSink {
  # The caller's own object, on which a tail delivers.

  event @0 (json :Text) -> stream;
  done @1 (failure :Failure);
  # Nothing more comes; without a failure the source has ended.
}

interface Subscription {}
# A tail that goes on for as long as this is held.

struct LogEntry {
  name @0 :Text;
  data @1 :Text;
}

struct Credentials {
  email @0 :Text;
  password @1 :Text;
}

struct MailMessage {
  from @0 :Text;  # empty: the configured sender
  to @1 :Text;
  subject @2 :Text;
  message @3 :Text;   # may be empty where a template is named
  cc @4 :Text;        # addresses with commas between, as in `to`
  bcc @5 :Text;       # likewise; the message does not name them
  replyTo @6 :Text;   # one address
  template @7 :Text;  # one of the mail service's own templates, by name; empty: the default
  data @8 :Text;      # a JSON object with the template's values; empty: none
  attachments @9 :List(Attachment);
}

struct Attachment {
  name @0 :Text;
  contentType @1 :Text;  # empty: application/octet-stream
  content @2 :Data;
}

struct Request {
  action @0 :Text;  # "auth", "log", "mail" or another; may be left out where the payload tells
  payload :union {
    json @1 :Text;
    log @2 :LogEntry;
    credentials @3 :Credentials;
    mail @4 :MailMessage;
  }
}

struct Metadata {
  # What accompanies a call. All of it may be left out.

  id @0 :Text;
  # What makes a second call the same message: a key of your own, at most 200 printable characters. None: one is made.
  idFromCaller @1 :Bool;
  # The id is a key that somebody chose: the same with another payload is `conflict`. On Broker every id is one.
  ack @2 :Ack;
  via @3 :Via;                # read by Broker
  timeoutMs @4 :Int64 = -1;   # remaining time; negative: the server's default
  traceparent @5 :Text;       # W3C trace context
  authorization @6 :Text;     # "Bearer <administrator's token>", or "Bearer <a login's token>"
  acceptedAtMicros @7 :Int64; # between FlexiConnect processes: when the broker took it, µs since 1970; 0: now
  hops @8 :Text;              # between FlexiConnect processes: where the message has been
  processKey @9 :Text;        # within one FlexiConnect process: proof that it speaks to itself
  client @10 :Text;           # between FlexiConnect processes, of a login: the address of who logs in
}

enum Ack {
  standard @0;  # the action's default
  accepted @1;  # answered once durably queued
  stored @2;    # answered once the destination has it
}

enum Via {
  auto @0;
  inproc @1;
  http @2;
  rpc @3;
  grpc @4;
  amqp @5;
}

struct Answer {
  union {
    ok @0 :Reply;
    error @1 :Failure;
  }
}

struct Reply {
  message @0 :Text;
  data @1 :Text;       # JSON; empty: none
  next @2 :Text;       # cursor of the next page; empty: this is the last
  way @3 :Text;        # how it went, e.g. "grpc"; set by a broker
  id @4 :Text;         # the message's id
  duplicate @5 :Bool;  # the destination had this message already
  user @6 :User;       # of an authentication
  subscription @7 :Subscription;  # of a tail
  token @8 :Text;      # of a login: proves later who logged in (meta.authorization); empty where the server has no key for tokens
}

struct User {
  id @0 :Int64;
  email @1 :Text;
  firstName @2 :Text;
  lastName @3 :Text;
  active @4 :Bool;
  createdAt @5 :Text;  # RFC 3339
  updatedAt @6 :Text;
}

struct Failure {
  kind @0 :ErrorKind;
  message @1 :Text;
  retryAfterMs @2 :Int64;  # 0: not said
  sentMaybe @3 :Bool;      # it may have been done all the same
  goingAway @4 :Bool;      # this server is stopping: use another connection, at once unless sentMaybe
  way @5 :Text;            # the last way that the broker tried; empty: none
  id @6 :Text;             # the message's id; empty where the call was not understood
}

enum ErrorKind {
  # docs/errors.md says what a caller can do about each.

  internal @0;
  invalidArgument @1;
  unauthenticated @2;
  permissionDenied @3;
  notFound @4;
  conflict @5;
  overloaded @6;
  unavailable @7;
  deadlineExceeded @8;
  cancelled @9;
  unimplemented @10;
}
