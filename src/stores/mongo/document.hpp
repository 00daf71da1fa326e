// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/log_store.hpp"
#include "stores/mongo/bson.hpp"

namespace flexi::stores::mongo {

/// How an entry stands in its collection. `name, data, created_at, updated_at` are the contract's; BSON's dates end at milliseconds, so the
/// rest of a time is beside it: `created_us, updated_us`. Further `message_id, trace_id, hops, via, published`, and `seq` for the ledger.

/// What a document may take. Source: https://www.mongodb.com/docs/manual/reference/limits/#bson-documents
inline constexpr std::size_t kMaxDocumentBytes = 16 * 1024 * 1024;

/// An entry's `_id` follows from its message id alone, so that it is the same whoever stores it and whenever: the seconds of a UUIDv7 and
/// eight bytes of a hash, which keeps new entries together in the index; twelve bytes of a hash where the id tells no time. Two ids
/// that meet in one `_id` are told apart by `message_id`: the later goes to its next place.
inline constexpr unsigned kPlaces = 4;
ObjectId place_of(const core::MessageId& id, unsigned attempt);
/// Whether `_id` is one that we would have given.
bool is_place_of(const ObjectId& place, const core::MessageId& id);

/// @return invalid_argument that names the field: not UTF-8, or larger than a document may be
core::Result<void> check_document(const core::LogRecord& record);
Bson to_document(const core::LogRecord& record, const ObjectId& place, std::int64_t seq);

/// Of a document that anybody wrote: what has another type than the contract's is shown as text, what is missing is empty. One that is
/// not ours has its `_id` in hex as its id.
core::LogRecord read_record(const ObjectId& id, Fields fields);
/// Whether a document that was found at a place of `id` is that message's.
bool is_message(Fields fields, const core::MessageId& id);

/// A time as BSON says it, and the microseconds that are left.
struct SplitTime {
  std::int64_t milliseconds = 0;
  int micros = 0;
};
SplitTime split(std::int64_t micros);

/// The acceptance that a repetition stands for: the same once more is the same.
ObjectId repeat_id(const core::MessageId& id, core::Via via, std::int64_t accepted_at);

}  // namespace flexi::stores::mongo
