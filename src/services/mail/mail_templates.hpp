// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/request.hpp"
#include "core/result.hpp"

namespace flexi::services::mail {

/// The pair in templates/, part of the program.
extern const std::string_view kDefaultHtmlTemplate;
extern const std::string_view kDefaultPlainTemplate;

/// What a mail without a template's name is rendered by.
inline constexpr std::string_view kDefaultTemplate = "mail";

/// Letters, digits, '-' and '_', at most 64: never a path.
bool is_template_name(std::string_view name);

/// Pairs of templates by name, in HTML and in plain text, with the variable `message` and those of Mail::data. In HTML
/// values are escaped by where they stand, whatever the template says; `{{message:pre_escape}}` keeps line breaks,
/// `{{message}}` makes them spaces.
/// Lifetime/threads: render from any thread
class MailTemplates {
 public:
  static constexpr std::size_t kMaxTemplates = 200;
  static constexpr std::size_t kMaxRenderedBytes = 8u << 20;  ///< a message of the largest size, all of it escaped

  struct Parts {
    std::string html;  ///< its CSS inlined
    std::string plain;
  };

  /// @param folder holds NAME.html and NAME.txt, at most 256 KiB each; without a mail.html and mail.txt, and where it is
  ///               empty, that pair is the program's own
  /// @return invalid_argument that names the file and what is wrong with it: missing, half of a pair, broken, with a style
  ///         that can't be inlined, or mail.… without {{message}}
  static core::Result<MailTemplates> load(const std::string& folder);

  MailTemplates(MailTemplates&&) noexcept;
  MailTemplates& operator=(MailTemplates&&) noexcept;
  ~MailTemplates();

  std::vector<std::string> names() const;

  /// By template_name, message and data.
  /// @return invalid_argument where there is no such template (the message names those that there are), the data is not
  ///         what fill() takes, or the result is over kMaxRenderedBytes
  core::Result<Parts> render(const core::Mail& mail) const;

 private:
  struct Impl;
  explicit MailTemplates(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::services::mail
