// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/sent_mails.hpp"
#include "runtime/postgres/database.hpp"

namespace flexi::stores::postgres {

/// Sent mails in a table that all replicas of the mail service share; leases run by the server's clock. What is sent is counted in the ledger of
/// the same database (open_ledger), in the same transaction.
/// @param database not yet started, with its ledger opened
/// @param remember how long the id of a mail is remembered after its last change; 0: for ever
/// Lifetime/threads: any thread; `database` outlives it
std::unique_ptr<core::SentMails> open_sent_mails(runtime::postgres::Database& database, std::chrono::milliseconds remember);

}  // namespace flexi::stores::postgres
