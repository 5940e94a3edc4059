// A reader of TensorBoard's event files for tests: TFRecord framing and just enough of protobuf,
// written from their specifications and apart from the library's writer.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/error.h>

namespace tendril::testing {

/// CRC-32C bit by bit: reversed polynomial 0x82F63B78, all ones before and after.
inline uint32_t slow_crc32c(std::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

/// Fields by number, each as its raw bytes: eight for varints, as stored for the others.
using ProtoFields = std::multimap<int, std::string>;

inline ProtoFields parse_proto(std::string_view bytes) {
  ProtoFields fields;
  size_t at = 0;
  const auto need = [&](size_t count) {
    if (bytes.size() - at < count) fail("the message ends too early");
  };
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      need(1);
      const auto byte = static_cast<unsigned char>(bytes[at++]);
      value += static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.size()) {
    const uint64_t key = varint();
    std::string value;
    size_t length = 0;
    switch (key & 7) {
      case 0: {
        const uint64_t number = varint();
        value.assign(reinterpret_cast<const char*>(&number), sizeof number);
        break;
      }
      case 1:
        length = 8;
        break;
      case 2:
        length = varint();
        break;
      case 5:
        length = 4;
        break;
      default:
        fail("unknown wire type ", key & 7);
    }
    need(length);
    if ((key & 7) != 0) value = std::string(bytes.substr(at, length));
    at += length;
    fields.emplace(static_cast<int>(key >> 3), value);
  }
  return fields;
}

template <class T>
T raw_value(const std::string& bytes) {
  if (bytes.size() != sizeof(T)) fail("a field of ", bytes.size(), " bytes");
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

inline std::optional<std::string> only_field(const ProtoFields& fields, int number) {
  if (fields.count(number) == 0) return std::nullopt;
  if (fields.count(number) > 1) fail("field ", number, " is there more than once");
  return fields.find(number)->second;
}

struct ReadEvent {
  double wall_time = 0.0;
  int64_t step = 0;
  std::string file_version;
  std::map<std::string, float> scalars;
  std::map<std::string, std::string> texts;
  std::optional<uint64_t> session_status;
};

inline void read_summary(std::string_view bytes, ReadEvent& event) {
  for (const auto& [number, value_bytes] : parse_proto(bytes)) {
    if (number != 1) fail("Summary has field ", number);
    const ProtoFields value = parse_proto(value_bytes);
    const std::string tag = only_field(value, 1).value();
    if (const auto number = only_field(value, 2)) event.scalars[tag] = raw_value<float>(*number);
    const auto tensor_bytes = only_field(value, 8), metadata = only_field(value, 9);
    if (!tensor_bytes) continue;
    const ProtoFields tensor = parse_proto(*tensor_bytes);
    if (raw_value<uint64_t>(only_field(tensor, 1).value()) != 7) fail("no DT_STRING");
    const std::string plugin = only_field(parse_proto(metadata.value()), 1).value();
    if (only_field(parse_proto(plugin), 1) != "text") fail("not for the text page");
    event.texts[tag] = only_field(tensor, 8).value();
  }
}

/// All events of a file; Error where a length or a checksum is wrong.
inline std::vector<ReadEvent> read_events(std::string_view file) {
  const auto masked = [](uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; };
  std::vector<ReadEvent> events;
  while (!file.empty()) {
    if (file.size() < 16) fail("a record's frame is cut");
    const auto length = raw_value<uint64_t>(std::string(file.substr(0, 8)));
    if (raw_value<uint32_t>(std::string(file.substr(8, 4))) !=
        masked(slow_crc32c(file.substr(0, 8))))
      fail("wrong checksum of a length");
    if (file.size() - 16 < length) fail("a record is cut");
    const std::string_view data = file.substr(12, length);
    if (raw_value<uint32_t>(std::string(file.substr(12 + length, 4))) != masked(slow_crc32c(data)))
      fail("wrong checksum of a record");
    file.remove_prefix(16 + length);
    const ProtoFields fields = parse_proto(data);
    ReadEvent event;
    event.wall_time = raw_value<double>(only_field(fields, 1).value());
    if (const auto step = only_field(fields, 2)) event.step = raw_value<int64_t>(*step);
    event.file_version = only_field(fields, 3).value_or("");
    if (const auto summary = only_field(fields, 5)) read_summary(*summary, event);
    if (const auto session = only_field(fields, 7))
      event.session_status = raw_value<uint64_t>(only_field(parse_proto(*session), 1).value());
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace tendril::testing
