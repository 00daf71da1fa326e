// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_templates.hpp"

#include <ctemplate/template.h>

#include <fstream>

#include "services/mail/css_inliner.hpp"

namespace flexi::services::mail {

namespace {

constexpr std::size_t kMaxTemplateBytes = 256u << 10;

core::Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return core::invalid_argument(path + " can't be read");
  std::string text(kMaxTemplateBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return core::invalid_argument(path + " can't be read");
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxTemplateBytes) return core::invalid_argument(path + " is over " + std::to_string(kMaxTemplateBytes) + " bytes");
  return text;
}

core::Result<std::unique_ptr<ctemplate::Template>> compile(const char* name, std::string_view text) {
  // DO_NOT_STRIP: what the author wrote is what is sent.
  std::unique_ptr<ctemplate::Template> compiled(
      ctemplate::Template::StringToTemplate(ctemplate::TemplateString(text.data(), text.size()), ctemplate::DO_NOT_STRIP));
  if (!compiled || compiled->state() != ctemplate::TS_READY)
    return core::invalid_argument(std::string(name) + " is not a valid template: check its {{…}} (and, in HTML, that tags and quotes are closed)");
  return compiled;
}

core::Result<std::string> expand(const ctemplate::Template& compiled, const std::string& message) {
  ctemplate::TemplateDictionary dictionary("mail");
  dictionary.SetValueWithoutCopy("message", ctemplate::TemplateString(message.data(), message.size()));
  std::string out;
  if (!compiled.Expand(&out, &dictionary)) return core::internal("internal error", "a mail template could not be expanded");
  return out;
}

}  // namespace

struct MailTemplates::Impl {
  std::unique_ptr<ctemplate::Template> html, plain;
};

MailTemplates::MailTemplates(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MailTemplates::MailTemplates(MailTemplates&&) noexcept = default;
MailTemplates& MailTemplates::operator=(MailTemplates&&) noexcept = default;
MailTemplates::~MailTemplates() = default;

core::Result<MailTemplates> MailTemplates::load(const std::string& folder) {
  if (folder.empty()) return from_text(kDefaultHtmlTemplate, kDefaultPlainTemplate);
  FLEXI_TRY(auto html, read_file(folder + "/mail.html"));
  FLEXI_TRY(auto plain, read_file(folder + "/mail.txt"));
  auto templates = from_text(html, plain);
  if (!templates) return core::invalid_argument(folder + ": " + templates.error().message);
  return templates;
}

core::Result<MailTemplates> MailTemplates::from_text(std::string_view html, std::string_view plain) {
  auto impl = std::make_unique<Impl>();
  std::string escaped(html);
  // Escaping is not the author's choice; the pragma must come first in the file.
  if (!escaped.starts_with("{{%AUTOESCAPE")) escaped.insert(0, "{{%AUTOESCAPE context=\"HTML\"}}");
  else if (!escaped.starts_with("{{%AUTOESCAPE context=\"HTML\"")) return core::invalid_argument("mail.html: %AUTOESCAPE must have context=\"HTML\"");
  FLEXI_TRY(impl->html, compile("mail.html", escaped));
  FLEXI_TRY(impl->plain, compile("mail.txt", plain));

  MailTemplates templates(std::move(impl));
  const std::string sample = "flexiconnect sample message";
  auto sample_html = templates.render_html(sample);
  if (!sample_html) return core::invalid_argument("mail.html: " + sample_html.error().message);
  if (sample_html.value().find(sample) == std::string::npos) return core::invalid_argument("mail.html does not show {{message}}");
  FLEXI_TRY(auto sample_plain, templates.render_plain(sample));
  if (sample_plain.find(sample) == std::string::npos) return core::invalid_argument("mail.txt does not show {{message}}");
  return templates;
}

core::Result<std::string> MailTemplates::render_html(const std::string& message) const {
  FLEXI_TRY(auto html, expand(*impl_->html, message));
  return inline_css(html);
}

core::Result<std::string> MailTemplates::render_plain(const std::string& message) const { return expand(*impl_->plain, message); }

}  // namespace flexi::services::mail
