// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_templates.hpp"

#include <ctemplate/template.h>
#include <ctemplate/template_emitter.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "services/mail/css_inliner.hpp"
#include "services/mail/template_data.hpp"

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

core::Result<std::unique_ptr<ctemplate::Template>> compile(const std::string& name, std::string_view text) {
  // DO_NOT_STRIP: what the author wrote is what is sent.
  std::unique_ptr<ctemplate::Template> compiled(
      ctemplate::Template::StringToTemplate(ctemplate::TemplateString(text.data(), text.size()), ctemplate::DO_NOT_STRIP));
  if (!compiled || compiled->state() != ctemplate::TS_READY)
    return core::invalid_argument(name + " is not a valid template: check its {{…}} (and, in HTML, that tags and quotes are closed)");
  return compiled;
}

/// Takes what a template gives up to a limit: sections within sections multiply.
class BoundedEmitter final : public ctemplate::ExpandEmitter {
 public:
  void Emit(char c) override { Emit(&c, 1); }
  void Emit(const std::string& text) override { Emit(text.data(), text.size()); }
  void Emit(const char* text) override { Emit(text, std::char_traits<char>::length(text)); }
  void Emit(const char* text, std::size_t size) override {
    full_ = full_ || out_.size() + size > MailTemplates::kMaxRenderedBytes;
    if (!full_) out_.append(text, size);
  }
  core::Result<std::string> take() {
    if (full_) return core::invalid_argument("the mail is over " + std::to_string(MailTemplates::kMaxRenderedBytes) + " bytes once its template is filled");
    return std::move(out_);
  }

 private:
  std::string out_;
  bool full_ = false;
};

core::Result<std::string> expand(const ctemplate::Template& compiled, const ctemplate::TemplateDictionary& dictionary) {
  BoundedEmitter out;
  if (!compiled.Expand(&out, &dictionary)) return core::internal("internal error", "a mail template could not be expanded");
  return out.take();
}

struct Pair {
  std::unique_ptr<ctemplate::Template> html, plain;

  core::Result<MailTemplates::Parts> render(const core::Mail& mail) const {
    ctemplate::TemplateDictionary dictionary("mail");
    FLEXI_TRY(fill(dictionary, mail.data));
    // A mail without a message may bring one among its data.
    if (!mail.message.empty() || mail.data.empty())
      dictionary.SetValueWithoutCopy("message", ctemplate::TemplateString(mail.message.data(), mail.message.size()));
    MailTemplates::Parts parts;
    FLEXI_TRY(const auto filled, expand(*html, dictionary));
    FLEXI_TRY(parts.html, inline_css(filled));
    FLEXI_TRY(parts.plain, expand(*plain, dictionary));
    return parts;
  }
};

core::Result<Pair> compile_pair(const std::string& name, std::string_view html, std::string_view plain) {
  const std::string html_name = name + ".html", plain_name = name + ".txt";
  Pair pair;
  std::string escaped(html);
  // Escaping is not the author's choice; the pragma must come first in the file.
  if (!escaped.starts_with("{{%AUTOESCAPE")) escaped.insert(0, "{{%AUTOESCAPE context=\"HTML\"}}");
  else if (!escaped.starts_with("{{%AUTOESCAPE context=\"HTML\"")) return core::invalid_argument(html_name + ": %AUTOESCAPE must have context=\"HTML\"");
  FLEXI_TRY(pair.html, compile(html_name, escaped));
  FLEXI_TRY(pair.plain, compile(plain_name, plain));

  const std::string sample = "flexiconnect sample message";
  auto parts = pair.render({"", "", "", sample});
  if (!parts) return core::invalid_argument(html_name + ": " + parts.error().message);
  if (name != kDefaultTemplate) return pair;  // the data may be all that it shows
  if (parts.value().html.find(sample) == std::string::npos) return core::invalid_argument("mail.html does not show {{message}}");
  if (parts.value().plain.find(sample) == std::string::npos) return core::invalid_argument("mail.txt does not show {{message}}");
  return pair;
}

/// The names that the folder has a half of, at least.
core::Result<std::set<std::string>> names_in(const std::string& folder) {
  std::error_code failure;
  std::filesystem::directory_iterator entries(folder, failure);
  if (failure) return core::invalid_argument(folder + " can't be read");
  std::set<std::string> names;
  for (; entries != std::filesystem::directory_iterator(); entries.increment(failure)) {
    const auto extension = entries->path().extension();
    if (extension != ".html" && extension != ".txt") continue;
    const auto name = entries->path().stem().string();
    if (!is_template_name(name)) return core::invalid_argument(entries->path().string() + " can't be a template's name: use letters, digits, - and _");
    names.insert(name);
  }
  if (failure) return core::invalid_argument(folder + " can't be read");
  return names;
}

}  // namespace

bool is_template_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
  });
}

struct MailTemplates::Impl {
  std::map<std::string, Pair, std::less<>> pairs;
};

MailTemplates::MailTemplates(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MailTemplates::MailTemplates(MailTemplates&&) noexcept = default;
MailTemplates& MailTemplates::operator=(MailTemplates&&) noexcept = default;
MailTemplates::~MailTemplates() = default;

core::Result<MailTemplates> MailTemplates::load(const std::string& folder) {
  auto impl = std::make_unique<Impl>();
  if (!folder.empty()) {
    FLEXI_TRY(const auto names, names_in(folder));
    if (names.empty()) return core::invalid_argument(folder + " holds no templates: put NAME.html and NAME.txt there");
    if (names.size() > kMaxTemplates) return core::invalid_argument(folder + " holds more than " + std::to_string(kMaxTemplates) + " templates");
    for (const auto& name : names) {
      FLEXI_TRY(const auto html, read_file(folder + "/" + name + ".html"));
      FLEXI_TRY(const auto plain, read_file(folder + "/" + name + ".txt"));
      auto pair = compile_pair(name, html, plain);
      if (!pair) return core::invalid_argument(folder + ": " + pair.error().message);
      impl->pairs.emplace(name, std::move(pair).value());
    }
  }
  if (impl->pairs.find(kDefaultTemplate) == impl->pairs.end()) {
    FLEXI_TRY(auto pair, compile_pair(std::string(kDefaultTemplate), kDefaultHtmlTemplate, kDefaultPlainTemplate));
    impl->pairs.emplace(kDefaultTemplate, std::move(pair));
  }
  return MailTemplates(std::move(impl));
}

std::vector<std::string> MailTemplates::names() const {
  std::vector<std::string> names;
  for (auto& [name, pair] : impl_->pairs) names.push_back(name);
  return names;
}

core::Result<MailTemplates::Parts> MailTemplates::render(const core::Mail& mail) const {
  const auto pair = impl_->pairs.find(mail.template_name.empty() ? kDefaultTemplate : std::string_view(mail.template_name));
  if (pair != impl_->pairs.end()) return pair->second.render(mail);
  std::string known;
  for (auto& [name, unused] : impl_->pairs) known.append(known.empty() ? "" : ", ").append(name);
  return core::invalid_argument("there is no such template here; there are: " + known);
}

}  // namespace flexi::services::mail
