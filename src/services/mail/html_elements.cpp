// SPDX-License-Identifier: Apache-2.0
#include "services/mail/html_elements.hpp"

#include <gumbo.h>

#include <algorithm>
#include <chrono>
#include <csetjmp>
#include <cstdlib>
#include <memory>

namespace flexi::services::mail {

namespace {

/// gumbo's memory and its only brake. The parser checks no allocation, frees its tree by recursion, and needs quadratic
/// time and memory for hostile text; so it gets memory that is freed as a whole, and is left by longjmp when it has had
/// enough of memory or time.
class ParserArena {
 public:
  ParserArena() = default;
  ParserArena(const ParserArena&) = delete;
  ParserArena& operator=(const ParserArena&) = delete;

  static void* allocate(void* arena, std::size_t size) { return static_cast<ParserArena*>(arena)->take(size); }
  static void release(void*, void*) {}

  std::jmp_buf exhausted;

 private:
  static constexpr std::size_t kMaxBytes = 64u << 20;
  static constexpr std::size_t kBlockBytes = 64u << 10;
  static constexpr std::chrono::milliseconds kMaxTime{1000};

  void* take(std::size_t size) {
    size = (size + 15) & ~std::size_t{15};
    if (++calls_ % 64 == 0 && std::chrono::steady_clock::now() - started_ > kMaxTime) std::longjmp(exhausted, 1);
    if (size > left_) {
      const auto block = std::max(size, kBlockBytes);
      if (block > kMaxBytes - used_) std::longjmp(exhausted, 1);
      used_ += block;
      blocks_.push_back(std::make_unique<char[]>(block));
      // A big block is its own: what is left of the current one stays in use.
      if (block > kBlockBytes) return blocks_.back().get();
      next_ = blocks_.back().get();
      left_ = block;
    }
    char* taken = next_;
    next_ += size;
    left_ -= size;
    return taken;
  }

  std::vector<std::unique_ptr<char[]>> blocks_;
  char* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t used_ = 0;
  std::size_t calls_ = 0;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

/// @return null where the arena had enough. Holds nothing that a longjmp would leave undestroyed.
GumboOutput* parse(ParserArena& arena, const char* data, std::size_t size) {
  GumboOptions options = kGumboDefaultOptions;
  options.allocator = ParserArena::allocate;
  options.deallocator = ParserArena::release;
  options.userdata = &arena;
  options.max_errors = 0;
  if (setjmp(arena.exhausted) != 0) return nullptr;
  return gumbo_parse_with_options(&options, data, size);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

/// Turns gumbo's tree into our flat list. Not recursive: the tree may be as deep as the text is long.
class Flattener {
 public:
  explicit Flattener(std::string_view html) : html_(html) {}

  HtmlElements run(const GumboNode* root) {
    visit(root, HtmlElement::kNone, HtmlElement::kNone);
    while (!open_.empty()) {
      auto& top = open_.back();
      if (top.next == top.node->v.element.children.length) {
        open_.pop_back();
        continue;
      }
      auto* child = static_cast<const GumboNode*>(top.node->v.element.children.data[top.next++]);
      const std::size_t depth = open_.size() - 1;
      const int added = visit(child, top.index, top.last_child);
      if (added != HtmlElement::kNone) open_[depth].last_child = added;
    }
    return std::move(out_);
  }

 private:
  struct Open {
    const GumboNode* node;
    int index;
    unsigned next;
    int last_child;
  };

  static bool is_element(const GumboNode* node) { return node->type == GUMBO_NODE_ELEMENT || node->type == GUMBO_NODE_TEMPLATE; }

  std::size_t offset(const char* p) const { return static_cast<std::size_t>(p - html_.data()); }
  bool inside(const GumboStringPiece& piece) const {
    return piece.data && piece.data >= html_.data() && piece.data + piece.length <= html_.data() + html_.size();
  }

  /// @return the index of the element that was added, if one was
  int visit(const GumboNode* node, int parent, int previous) {
    if (!is_element(node)) return HtmlElement::kNone;
    const auto& element = node->v.element;
    if (element.tag == GUMBO_TAG_STYLE) {
      add_style(element);
      return HtmlElement::kNone;
    }
    const int index = static_cast<int>(out_.elements.size());
    if (element.tag == GUMBO_TAG_HEAD) {
      // Only its <style> counts.
      for (unsigned i = 0; i < element.children.length; ++i) {
        auto* child = static_cast<const GumboNode*>(element.children.data[i]);
        if (is_element(child) && child->v.element.tag == GUMBO_TAG_STYLE) add_style(child->v.element);
      }
      return HtmlElement::kNone;
    }
    add_element(node, parent, previous);
    open_.push_back({node, index, 0, HtmlElement::kNone});
    return index;
  }

  void add_style(const GumboElement& element) {
    HtmlStyleElement style;
    if (!inside(element.original_tag)) return;
    style.range.begin = offset(element.original_tag.data);
    style.range.end = style.range.begin + element.original_tag.length;
    if (inside(element.original_end_tag)) style.range.end = offset(element.original_end_tag.data) + element.original_end_tag.length;
    if (style.range.end <= style.range.begin) return;
    if (element.children.length > 0) {
      auto* text = static_cast<const GumboNode*>(element.children.data[0]);
      if (text->type == GUMBO_NODE_TEXT || text->type == GUMBO_NODE_WHITESPACE) {
        style.css = text->v.text.text;
        // Without an end tag the element goes to the end of the text.
        if (!inside(element.original_end_tag)) style.range.end = html_.size();
      }
    }
    if (auto* media = gumbo_get_attribute(&element.attributes, "media")) style.media = media->value;
    out_.styles.push_back(std::move(style));
  }

  void add_element(const GumboNode* node, int parent, int previous) {
    const auto& element = node->v.element;
    HtmlElement added;
    added.parent = parent;
    added.previous = previous;
    if (previous != HtmlElement::kNone) out_.elements[static_cast<std::size_t>(previous)].last_child = false;
    added.tag = tag_name(element);
    // Clones of a tag that was closed in the wrong place share its text; only the first stands for it.
    constexpr unsigned kCloned = GUMBO_INSERTION_RECONSTRUCTED_FORMATTING_ELEMENT | GUMBO_INSERTION_ADOPTION_AGENCY_CLONED;
    if (!(static_cast<unsigned>(node->parse_flags) & kCloned)) added.after_name = name_end(element.original_tag);
    for (unsigned i = 0; i < element.attributes.length; ++i) {
      auto* attribute = static_cast<const GumboAttribute*>(element.attributes.data[i]);
      HtmlAttribute copy{lower(attribute->name), attribute->value, {}};
      if (inside(attribute->original_name)) {
        copy.range.begin = offset(attribute->original_name.data);
        copy.range.end = copy.range.begin + attribute->original_name.length;
        if (inside(attribute->original_value))
          copy.range.end = std::max(copy.range.end, offset(attribute->original_value.data) + attribute->original_value.length);
      }
      added.attributes.push_back(std::move(copy));
    }
    out_.elements.push_back(std::move(added));
  }

  std::string tag_name(const GumboElement& element) const {
    if (element.tag != GUMBO_TAG_UNKNOWN) return gumbo_normalized_tagname(element.tag);
    GumboStringPiece name = element.original_tag;
    if (!inside(name) || name.length < 2) return {};
    gumbo_tag_from_original_text(&name);
    return lower({name.data, name.length});
  }

  /// Where `<name` ends; 0 where the text is not a start tag (an implied element, or one made from an end tag).
  std::size_t name_end(const GumboStringPiece& tag) const {
    if (!inside(tag) || tag.length < 3 || tag.data[0] != '<') return 0;
    const char first = static_cast<char>(tag.data[1] | 0x20);
    if (first < 'a' || first > 'z') return 0;
    const std::string_view text(tag.data, tag.length);
    const auto end = text.find_first_of(" \t\r\n\f/>");
    return end == std::string_view::npos ? 0 : offset(tag.data) + end;
  }

  std::string_view html_;
  HtmlElements out_;
  std::vector<Open> open_;
};

}  // namespace

const std::string* HtmlElement::attribute(std::string_view name) const {
  for (const auto& a : attributes)
    if (a.name == name) return &a.value;
  return nullptr;
}

core::Result<HtmlElements> read_html(std::string_view html) {
  auto arena = std::make_unique<ParserArena>();
  const GumboOutput* output = parse(*arena, html.data(), html.size());
  if (!output) return core::invalid_argument("the HTML is nested too deeply or has too many tags");
  return Flattener(html).run(output->root);
}

}  // namespace flexi::services::mail
