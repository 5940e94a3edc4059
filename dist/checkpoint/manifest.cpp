#include <tendril/dist/checkpoint/manifest.h>

#include <charconv>
#include <cstdio>
#include <optional>
#include <set>
#include <vector>

#include <tendril/core/crc32c.h>
#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/core/safetensors_header.h>
#include <tendril/dist/checkpoint/shard_name.h>

namespace tendril::dist::shards {
namespace {

constexpr const char* kFormat = "tendril sharded checkpoint";
constexpr int64_t kVersion = 1;

std::string hex(uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

uint32_t from_hex(const std::string& text) {
  uint32_t value = 0;  // a text that is no number fails the comparison of the whole manifest
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

std::optional<DType> dtype_of_name(const std::string& text) {
  for (int i = 0; i < kDTypeCount; ++i)
    if (text == tendril::detail::safetensors_type_name(static_cast<DType>(i)))
      return static_cast<DType>(i);
  return std::nullopt;
}

// ---- writing

// "{", the members with commas between them on lines of their own, "}".
template <class Map, class Member>
std::string object_text(const Map& map, const Member& member) {
  std::string text = "{";
  const char* separator = "\n    ";
  for (const auto& [name, value] : map) {
    text += separator + json_quote(name) + ": " + member(value);
    separator = ",\n    ";
  }
  return text + (map.empty() ? "}" : "\n  }");
}

std::string tensor_text(const StoredTensor& tensor) {
  std::string text =
      "{\"dtype\": " + json_quote(tendril::detail::safetensors_type_name(tensor.dtype)) +
      ", \"shape\": [";
  const char* separator = "";
  for (const int64_t size : tensor.shape) {
    text += separator + std::to_string(size);
    separator = ", ";
  }
  text += "], \"pieces\": [";
  separator = "";
  for (const StoredTensor::Rows& rows : tensor.rows) {
    text += separator + ("{\"rows\": [" + std::to_string(rows.begin)) + ", " +
            std::to_string(rows.end) + "], \"file\": " + json_quote(rows.file) + "}";
    separator = ", ";
  }
  return text + "]}";
}

// ---- reading

StoredTensor parse_tensor(const Json& json) {
  StoredTensor result;
  const std::string& type = json.at("dtype").as_string();
  const auto dtype = dtype_of_name(type);
  TENDRIL_CHECK(dtype, "the dtype ", json_quote(type), " is not one that Tendril has");
  result.dtype = *dtype;
  std::vector<int64_t> sizes;
  for (const Json& size : json.at("shape").items()) sizes.push_back(size.as_int());
  result.shape = Shape(sizes);
  for (const Json& piece : json.at("pieces").items()) {
    const Json::Array& range = piece.at("rows").items();
    TENDRIL_CHECK(range.size() == 2, "rows must be two numbers; got ", range.size());
    result.rows.push_back({range[0].as_int(), range[1].as_int(), piece.at("file").as_string()});
  }
  return result;
}

void check_shape(const StoredTensor& tensor) {
  for (const int64_t size : tensor.shape)
    TENDRIL_CHECK(size >= 0, "sizes must not be negative; got shape ", tensor.shape);
  int64_t bytes;
  TENDRIL_CHECK(!__builtin_mul_overflow(tensor.shape.numel(), size_of(tensor.dtype), &bytes),
                "shape ", tensor.shape, " has more bytes than fit in 63 bits");
}

// `room`: what is left of each file, less the bytes of this tensor afterwards.
void check_pieces(const StoredTensor& tensor, std::map<std::string, int64_t>& room) {
  std::set<std::string> files;
  int64_t expected = 0;
  for (const StoredTensor::Rows& rows : tensor.rows) {
    TENDRIL_CHECK(rows.begin == expected && rows.end > rows.begin, "rows [", rows.begin, ", ",
                  rows.end, ") do not begin at ", expected, ", where the rows before end");
    expected = rows.end;
    TENDRIL_CHECK(rows.end <= row_count(tensor.shape), "rows [", rows.begin, ", ", rows.end,
                  ") are beyond the end of shape ", tensor.shape);
    TENDRIL_CHECK(room.contains(rows.file), "the file ", json_quote(rows.file), " is not listed");
    TENDRIL_CHECK(files.insert(rows.file).second, json_quote(rows.file), " has two pieces of it");
    int64_t& left = room[rows.file];
    left -= (rows.end - rows.begin) * row_bytes(tensor);
    TENDRIL_CHECK(left >= 0, json_quote(rows.file), " is too small for what it should hold");
  }
  TENDRIL_CHECK(expected == row_count(tensor.shape), "rows [", expected, ", ",
                row_count(tensor.shape), ") are missing");
}

Manifest parse_manifest(std::string_view text) {
  const Json json = Json::parse(text, "manifest", {.depth = 6});
  TENDRIL_CHECK(json.is_object() && json.find("format") && json.find("version") &&
                    json.at("format").is_string() && json.at("format").as_string() == kFormat,
                "it is not the manifest of a sharded checkpoint");
  const Json& version = json.at("version");
  TENDRIL_CHECK(version.is_integer() && version.as_int() == kVersion, "it has format version ",
                version.dump(), "; this Tendril reads version ", kVersion);
  Manifest result;
  for (const auto& [key, value] : json.at("metadata").members())
    result.metadata[key] = value.as_string();
  std::map<std::string, int64_t> room;
  for (const auto& [name, record] : json.at("files").members()) {
    TENDRIL_CHECK(save_number(name), json_quote(name), " is not the name of a shard");
    FileRecord& file = result.files[name];
    file = {record.at("bytes").as_int(), from_hex(record.at("crc32c").as_string())};
    TENDRIL_CHECK(file.bytes >= 0, json_quote(name), " cannot have ", file.bytes, " bytes");
    room[name] = file.bytes;
  }
  for (const auto& [name, value] : json.at("tensors").members()) {
    try {
      const StoredTensor tensor = parse_tensor(value);
      check_shape(tensor);
      check_pieces(tensor, room);
      result.tensors.emplace(name, tensor);
    } catch (const Error& error) {
      fail("tensor ", json_quote(name), ": ", error.what());
    }
  }
  TENDRIL_CHECK(result.text() == text, "it was changed after it was written");
  return result;
}

}  // namespace

std::string Manifest::text() const {
  // Written by hand so that the form is this file's alone, whatever Json::dump() does with spaces.
  std::string text =
      "{\n  \"format\": " + json_quote(kFormat) + ",\n  \"version\": " + std::to_string(kVersion) +
      ",\n  \"metadata\": " +
      object_text(metadata, [](const std::string& value) { return json_quote(value); }) +
      ",\n  \"files\": " +
      object_text(files,
                  [](const FileRecord& file) {
                    return "{\"bytes\": " + std::to_string(file.bytes) + ", \"crc32c\": \"" +
                           hex(file.crc32c) + "\"}";
                  }) +
      ",\n  \"tensors\": " + object_text(tensors, tensor_text) + ",\n  ";
  return text + "\"crc32c\": \"" + hex(crc32c(text.data(), text.size())) + "\"\n}\n";
}

Manifest Manifest::parse(std::string_view text, const std::string& origin) {
  try {
    return parse_manifest(text);
  } catch (const Error& error) {
    fail("[sharded_checkpoint] ", origin, ": ", error.what());
  }
}

int64_t row_count(const Shape& whole) { return whole.empty() ? 1 : whole[0]; }

Shape shape_of_rows(const Shape& whole, int64_t rows) {
  Shape shape = whole;
  if (!shape.empty()) shape[0] = rows;
  return shape;
}

int64_t row_bytes(const StoredTensor& tensor) {
  const int64_t rows = row_count(tensor.shape);
  return rows == 0 ? 0 : tensor.shape.numel() / rows * size_of(tensor.dtype);
}

}  // namespace tendril::dist::shards
