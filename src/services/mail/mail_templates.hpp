// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::services::mail {

/// The pair in templates/, part of the program.
extern const std::string_view kDefaultHtmlTemplate;
extern const std::string_view kDefaultPlainTemplate;

/// The two templates of a mail, with one variable: `message`. In HTML it is escaped by where it stands, whatever the
/// template says; `{{message:pre_escape}}` keeps its line breaks, `{{message}}` makes them spaces.
/// Lifetime/threads: render from any thread
class MailTemplates {
 public:
  /// @param folder holds mail.html and mail.txt, at most 256 KiB each; empty: the default pair
  /// @return invalid_argument that names the file and what is wrong with it: missing, broken, without {{message}}, or
  ///         with a style that can't be inlined
  static core::Result<MailTemplates> load(const std::string& folder);
  static core::Result<MailTemplates> from_text(std::string_view html, std::string_view plain);

  MailTemplates(MailTemplates&&) noexcept;
  MailTemplates& operator=(MailTemplates&&) noexcept;
  ~MailTemplates();

  /// The HTML part, its CSS inlined.
  core::Result<std::string> render_html(const std::string& message) const;
  core::Result<std::string> render_plain(const std::string& message) const;

 private:
  struct Impl;
  explicit MailTemplates(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::services::mail
