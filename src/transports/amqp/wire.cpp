// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/wire.hpp"

#include <optional>
#include <vector>

namespace flexi::transports::amqp {

namespace {

void append_number(std::string& out, std::uint64_t number, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
}

std::uint64_t read_number(std::string_view bytes) {
  std::uint64_t number = 0;
  for (unsigned char c : bytes) number = number << 8 | c;
  return number;
}

void append_frame_head(std::string& out, std::uint8_t type, std::uint16_t channel, std::size_t size) {
  out += static_cast<char>(type);
  append_number(out, channel, 2);
  append_number(out, size, 4);
}

/// Where encoders write: they want to know the room beforehand.
std::string& scratch(std::size_t size) {
  thread_local std::string buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer;
}

/// Headers as librabbitmq's table; refers to the message's memory.
struct Table {
  explicit Table(const Message& message) {
    entries.reserve(message.headers.size());
    for (auto& [name, value] : message.headers) {
      amqp_table_entry_t entry{};
      entry.key = bytes_of(name);
      if (auto* text = std::get_if<std::string>(&value)) {
        entry.value.kind = AMQP_FIELD_KIND_UTF8;
        entry.value.value.bytes = bytes_of(*text);
      } else if (auto* number = std::get_if<std::int64_t>(&value)) {
        entry.value.kind = AMQP_FIELD_KIND_I64;
        entry.value.value.i64 = *number;
      } else {
        entry.value.kind = AMQP_FIELD_KIND_BOOLEAN;
        entry.value.value.boolean = std::get<bool>(value);
      }
      entries.push_back(entry);
    }
  }
  std::vector<amqp_table_entry_t> entries;
};

amqp_basic_properties_t properties_of(const Message& m, Table& table) {
  amqp_basic_properties_t p{};
  const auto text = [&p](amqp_bytes_t& field, const std::string& value, amqp_flags_t flag) {
    // A short string has one byte for its length: what does not fit is left out. Those that come from outside were checked before.
    if (value.empty() || value.size() > 255) return;
    field = bytes_of(value);
    p._flags |= flag;
  };
  text(p.content_type, m.content_type, AMQP_BASIC_CONTENT_TYPE_FLAG);
  text(p.content_encoding, m.content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG);
  text(p.correlation_id, m.correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG);
  text(p.reply_to, m.reply_to, AMQP_BASIC_REPLY_TO_FLAG);
  text(p.expiration, m.expiration, AMQP_BASIC_EXPIRATION_FLAG);
  text(p.message_id, m.message_id, AMQP_BASIC_MESSAGE_ID_FLAG);
  text(p.type, m.type, AMQP_BASIC_TYPE_FLAG);
  text(p.app_id, m.app_id, AMQP_BASIC_APP_ID_FLAG);
  if (m.delivery_mode != 0) p.delivery_mode = m.delivery_mode, p._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
  if (m.timestamp > 0) p.timestamp = static_cast<std::uint64_t>(m.timestamp), p._flags |= AMQP_BASIC_TIMESTAMP_FLAG;
  if (!table.entries.empty()) {
    p.headers = {static_cast<int>(table.entries.size()), table.entries.data()};
    p._flags |= AMQP_BASIC_HEADERS_FLAG;
  }
  return p;
}

std::optional<std::int64_t> integer_of(const amqp_field_value_t& value) {
  switch (value.kind) {
    case AMQP_FIELD_KIND_I8: return value.value.i8;
    case AMQP_FIELD_KIND_U8: return value.value.u8;
    case AMQP_FIELD_KIND_I16: return value.value.i16;
    case AMQP_FIELD_KIND_U16: return value.value.u16;
    case AMQP_FIELD_KIND_I32: return value.value.i32;
    case AMQP_FIELD_KIND_U32: return value.value.u32;
    case AMQP_FIELD_KIND_I64: return value.value.i64;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP: return static_cast<std::int64_t>(value.value.u64);
    default: return std::nullopt;
  }
}

/// x-death's first entry is the newest. Source: https://www.rabbitmq.com/dlx.html
void read_death(const amqp_field_value_t& deaths, Message& m) {
  if (deaths.kind != AMQP_FIELD_KIND_ARRAY || deaths.value.array.num_entries < 1) return;
  auto& newest = deaths.value.array.entries[0];
  if (newest.kind != AMQP_FIELD_KIND_TABLE) return;
  for (int i = 0; i < newest.value.table.num_entries; ++i) {
    auto& entry = newest.value.table.entries[i];
    if (view_of(entry.key) == "time") m.death_time = integer_of(entry.value).value_or(0);
    else if (view_of(entry.key) == "reason" && entry.value.kind == AMQP_FIELD_KIND_UTF8) m.death_reason = view_of(entry.value.value.bytes);
  }
}

void read_headers(const amqp_table_t& table, Message& m) {
  for (int i = 0; i < table.num_entries; ++i) {
    auto& entry = table.entries[i];
    const auto name = view_of(entry.key);
    if (entry.value.kind == AMQP_FIELD_KIND_UTF8 || entry.value.kind == AMQP_FIELD_KIND_BYTES)
      m.headers.emplace_back(name, std::string(view_of(entry.value.value.bytes)));
    else if (entry.value.kind == AMQP_FIELD_KIND_BOOLEAN)
      m.headers.emplace_back(name, entry.value.value.boolean != 0);
    else if (auto number = integer_of(entry.value))
      m.headers.emplace_back(name, *number);
    else if (name == "x-death")
      read_death(entry.value, m);
  }
}

constexpr int kMaxNesting = 32;

/// Bytes of the field value at the front, its kind included; 0 where it can't be read or is nested too deeply.
/// librabbitmq decodes tables by recursion without a limit: what a stranger nests would be as deep as a frame is long.
std::size_t field_size(std::string_view bytes, int depth) {
  const auto counted = [&](std::size_t prefix) -> std::size_t {
    if (bytes.size() < 1 + prefix) return 0;
    const auto size = 1 + prefix + static_cast<std::size_t>(read_number(bytes.substr(1, prefix)));
    return size <= bytes.size() ? size : 0;
  };
  const auto fixed = [&](std::size_t size) -> std::size_t { return bytes.size() > size ? 1 + size : 0; };
  if (bytes.empty()) return 0;
  switch (bytes[0]) {
    case AMQP_FIELD_KIND_BOOLEAN:
    case AMQP_FIELD_KIND_I8:
    case AMQP_FIELD_KIND_U8: return fixed(1);
    case AMQP_FIELD_KIND_I16:
    case AMQP_FIELD_KIND_U16: return fixed(2);
    case AMQP_FIELD_KIND_I32:
    case AMQP_FIELD_KIND_U32:
    case AMQP_FIELD_KIND_F32: return fixed(4);
    case AMQP_FIELD_KIND_I64:
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_F64:
    case AMQP_FIELD_KIND_TIMESTAMP: return fixed(8);
    case AMQP_FIELD_KIND_DECIMAL: return fixed(5);
    case AMQP_FIELD_KIND_VOID: return 1;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES: return counted(4);
    case AMQP_FIELD_KIND_ARRAY:
    case AMQP_FIELD_KIND_TABLE: {
      const auto size = counted(4);
      if (size == 0 || depth >= kMaxNesting) return 0;
      for (auto inner = bytes.substr(5, size - 5); !inner.empty();) {
        if (bytes[0] == AMQP_FIELD_KIND_TABLE) {
          const auto name = std::size_t{1} + static_cast<unsigned char>(inner[0]);
          if (name > inner.size()) return 0;
          inner.remove_prefix(name);
        }
        const auto value = field_size(inner, depth + 1);
        if (value == 0) return 0;
        inner.remove_prefix(value);
      }
      return size;
    }
    default: return 0;
  }
}

/// Whether librabbitmq may decode these properties: their headers, third in order, are well-formed and not too deep.
bool readable(std::string_view properties) {
  if (properties.size() < 2) return false;
  const auto flags = read_number(properties.substr(0, 2));
  if (flags & 1) return false;  // more flag words than AMQP has properties
  properties.remove_prefix(2);
  for (unsigned flag : {AMQP_BASIC_CONTENT_TYPE_FLAG, AMQP_BASIC_CONTENT_ENCODING_FLAG}) {
    if (!(flags & flag)) continue;
    if (properties.empty() || properties.size() < std::size_t{1} + static_cast<unsigned char>(properties[0])) return false;
    properties.remove_prefix(std::size_t{1} + static_cast<unsigned char>(properties[0]));
  }
  if (!(flags & AMQP_BASIC_HEADERS_FLAG)) return true;
  std::string table(1, static_cast<char>(AMQP_FIELD_KIND_TABLE));
  return field_size(table.append(properties), 0) != 0;
}

}  // namespace

FrameStep next_frame(std::string_view& bytes, std::size_t frame_max, Frame& frame) {
  if (bytes.size() < 7) return FrameStep::need_more;
  const auto size = static_cast<std::size_t>(read_number(bytes.substr(3, 4)));
  frame.type = static_cast<std::uint8_t>(bytes[0]);
  frame.channel = static_cast<std::uint16_t>(read_number(bytes.substr(1, 2)));
  const bool known = frame.type == AMQP_FRAME_METHOD || frame.type == AMQP_FRAME_HEADER || frame.type == AMQP_FRAME_BODY || frame.type == AMQP_FRAME_HEARTBEAT;
  if (!known || size + kFrameOverhead > frame_max) return FrameStep::malformed;
  if (bytes.size() < size + kFrameOverhead) return FrameStep::need_more;
  if (static_cast<unsigned char>(bytes[size + 7]) != AMQP_FRAME_END) return FrameStep::malformed;
  frame.payload = bytes.substr(7, size);
  bytes.remove_prefix(size + kFrameOverhead);
  return FrameStep::frame;
}

bool append_method(std::string& out, std::uint16_t channel, amqp_method_number_t method, void* arguments, std::size_t frame_max) {
  auto& buffer = scratch(frame_max);
  const int size = amqp_encode_method(method, arguments, {frame_max - kFrameOverhead - 4, buffer.data()});
  if (size < 0) return false;
  append_frame_head(out, AMQP_FRAME_METHOD, channel, static_cast<std::size_t>(size) + 4);
  append_number(out, method, 4);
  out.append(buffer.data(), static_cast<std::size_t>(size));
  out += static_cast<char>(AMQP_FRAME_END);
  return true;
}

void append_heartbeat(std::string& out) {
  append_frame_head(out, AMQP_FRAME_HEARTBEAT, 0, 0);
  out += static_cast<char>(AMQP_FRAME_END);
}

core::Result<void> append_publish(std::string& out, std::uint16_t channel, std::string_view exchange, std::string_view routing_key,
                                  bool mandatory, const Message& message, std::size_t frame_max) {
  if (exchange.size() > 255 || routing_key.size() > 255) return core::invalid_argument("an exchange's name and a routing key have at most 255 bytes");
  const auto start = out.size();
  amqp_basic_publish_t publish{0, bytes_of(exchange), bytes_of(routing_key), mandatory, 0};
  if (!append_method(out, channel, AMQP_BASIC_PUBLISH_METHOD, &publish, frame_max)) return core::internal("internal error", "basic.publish can't be encoded");
  Table table(message);
  auto properties = properties_of(message, table);
  auto& buffer = scratch(frame_max);
  const int size = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, {frame_max - kFrameOverhead - 12, buffer.data()});
  if (size < 0) {
    out.resize(start);
    return core::invalid_argument("the message's headers are too long");
  }
  append_frame_head(out, AMQP_FRAME_HEADER, channel, static_cast<std::size_t>(size) + 12);
  append_number(out, AMQP_BASIC_CLASS, 2);
  append_number(out, 0, 2);
  append_number(out, message.body.size(), 8);
  out.append(buffer.data(), static_cast<std::size_t>(size));
  out += static_cast<char>(AMQP_FRAME_END);
  for (std::string_view rest = message.body; !rest.empty();) {
    const auto piece = rest.substr(0, frame_max - kFrameOverhead);
    rest.remove_prefix(piece.size());
    append_frame_head(out, AMQP_FRAME_BODY, channel, piece.size());
    out.append(piece);
    out += static_cast<char>(AMQP_FRAME_END);
  }
  return core::ok();
}

core::Result<void*> decode_method(Pool& pool, std::string_view payload, amqp_method_number_t& method) {
  if (payload.size() < 4) return core::invalid_argument("a method frame is too short");
  method = static_cast<amqp_method_number_t>(read_number(payload.substr(0, 4)));
  void* decoded = nullptr;
  if (amqp_decode_method(method, pool.get(), bytes_of(payload.substr(4)), &decoded) < 0) return core::invalid_argument("a method frame can't be read");
  return decoded;
}

core::Result<Message> decode_content_header(Pool& pool, std::string_view payload) {
  if (payload.size() < 14 || read_number(payload.substr(0, 2)) != AMQP_BASIC_CLASS) return core::invalid_argument("a content header can't be read");
  Message m;
  m.body_bytes = static_cast<std::size_t>(read_number(payload.substr(4, 8)));
  void* decoded = nullptr;
  // What a stranger wrote into the properties must not end the connection: the message comes without them.
  if (!readable(payload.substr(12)) || amqp_decode_properties(AMQP_BASIC_CLASS, pool.get(), bytes_of(payload.substr(12)), &decoded) < 0) return m;
  auto& p = *static_cast<amqp_basic_properties_t*>(decoded);
  const auto text = [&p](amqp_flags_t flag, amqp_bytes_t value) { return p._flags & flag ? std::string(view_of(value)) : std::string(); };
  m.content_type = text(AMQP_BASIC_CONTENT_TYPE_FLAG, p.content_type);
  m.content_encoding = text(AMQP_BASIC_CONTENT_ENCODING_FLAG, p.content_encoding);
  m.correlation_id = text(AMQP_BASIC_CORRELATION_ID_FLAG, p.correlation_id);
  m.reply_to = text(AMQP_BASIC_REPLY_TO_FLAG, p.reply_to);
  m.expiration = text(AMQP_BASIC_EXPIRATION_FLAG, p.expiration);
  m.message_id = text(AMQP_BASIC_MESSAGE_ID_FLAG, p.message_id);
  m.type = text(AMQP_BASIC_TYPE_FLAG, p.type);
  m.app_id = text(AMQP_BASIC_APP_ID_FLAG, p.app_id);
  if (p._flags & AMQP_BASIC_DELIVERY_MODE_FLAG) m.delivery_mode = p.delivery_mode;
  if (p._flags & AMQP_BASIC_TIMESTAMP_FLAG) m.timestamp = static_cast<std::int64_t>(p.timestamp);
  if (p._flags & AMQP_BASIC_HEADERS_FLAG) read_headers(p.headers, m);
  return m;
}

}  // namespace flexi::transports::amqp
