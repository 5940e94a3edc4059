#include <tendril/core/safetensors_header.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

#include <tendril/core/error.h>
#include <tendril/core/json.h>

namespace tendril::detail {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr SafetensorsType kTypes[] = {
    {"BOOL", 8, true, bool_},       {"U8", 8, true, u8},
    {"I8", 8, true, i32},           {"I16", 16, true, i32},
    {"I32", 32, true, i32},         {"I64", 64, true, i64},
    {"F16", 16, true, f16},         {"BF16", 16, true, bf16},
    {"F32", 32, true, f32},         {"F64", 64, true, f64},
    {"U16", 16, false, i32},        {"U32", 32, false, i64},
    {"U64", 64, false, i64},        {"C64", 64, false, f32},
    {"F4", 4, false, f32},          {"F6_E2M3", 6, false, f32},
    {"F6_E3M2", 6, false, f32},     {"F8_E5M2", 8, false, f32},
    {"F8_E4M3", 8, false, f32},     {"F8_E5M2FNUZ", 8, false, f32},
    {"F8_E4M3FNUZ", 8, false, f32}, {"F8_E8M0", 8, false, f32},
};

// One validation: collects what every message needs to say.
class Validator {
 public:
  Validator(std::string_view file, const std::string& path) : file_(file), path_(path) {}

  SafetensorsHeader run() {
    const std::string_view text = header_text();
    parse(text);
    check_offsets();
    check_sizes();
    const int64_t end = header_.entries.empty() ? 0 : header_.entries.back().end;
    const auto available = static_cast<int64_t>(file_.size()) - header_.data_start;
    require(end == available, "MetadataIncompleteBuffer", "the tensors end at byte ", end,
            " but there are ", available, " bytes of data; they must be equal");
    return std::move(header_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const char* rule, const Parts&... parts) const {
    fail("[safetensors] ", path_, ": ", rule, ": ", parts...);
  }

  template <class... Parts>
  void require(bool condition, const char* rule, const Parts&... parts) const {
    if (!condition) refuse(rule, parts...);
  }

  std::string_view header_text() {
    require(file_.size() >= 8, "HeaderTooSmall", "the file has ", file_.size(),
            " bytes; 8 are needed for the header length");
    uint64_t length;
    std::memcpy(&length, file_.data(), sizeof length);
    require(length <= kMaxSafetensorsHeader, "HeaderTooLarge", "the header claims ", length,
            " bytes; at most ", kMaxSafetensorsHeader, " are allowed");
    require(length <= file_.size() - 8, "InvalidHeaderLength", "the header claims ", length,
            " bytes; the file has only ", file_.size(), " in all");
    header_.data_start = 8 + static_cast<int64_t>(length);
    const std::string_view text = file_.substr(8, length);
    require(is_utf8(text), "InvalidHeader", "the header is not valid UTF-8");
    require(text.starts_with('{'), "InvalidHeaderStart", "the header must begin with '{'");
    return text;
  }

  void parse(std::string_view text) {
    // Entries hold arrays, nothing is deeper than three levels; no tensor has more than 64 axes.
    Json json;
    try {
      json = Json::parse(text, "header", {.depth = 3, .array_items = 64});
    } catch (const Error& error) {
      refuse("InvalidHeaderDeserialization", error.what());
    }
    header_.entries.reserve(json.members().size());
    for (const auto& [name, value] : json.members()) {
      if (name == "__metadata__")
        parse_metadata(value);
      else
        header_.entries.push_back(parse_entry(name, value));
    }
  }

  void parse_metadata(const Json& json) {
    require(json.is_object(), "InvalidHeaderDeserialization", "__metadata__ must be an object");
    for (const auto& [key, value] : json.members()) {
      require(value.is_string(), "InvalidHeaderDeserialization",
              "__metadata__ must hold strings only; ", json_quote(key), " is not one");
      header_.metadata.emplace(key, value.as_string());
    }
  }

  SafetensorsEntry parse_entry(const std::string& name, const Json& json) const {
    const char* rule = "InvalidHeaderDeserialization";
    const std::string label = "tensor " + json_quote(name);
    require(json.is_object(), rule, label, " must be an object");
    const Json* dtype = json.find("dtype");
    const Json* shape = json.find("shape");
    const Json* offsets = json.find("data_offsets");
    require(dtype && shape && offsets && json.members().size() == 3, rule, label,
            " must have exactly dtype, shape and data_offsets");
    require(dtype->is_string(), rule, label, ": dtype must be a string");
    const auto type = std::find_if(
        std::begin(kTypes), std::end(kTypes),
        [&](const SafetensorsType& known) { return dtype->as_string() == known.name; });
    require(type != std::end(kTypes), rule, label, " has the unknown dtype ",
            json_quote(dtype->as_string()));
    SafetensorsEntry entry{.name = name, .type = type, .shape = sizes(label, "shape", *shape)};
    const std::vector<int64_t> range = sizes(label, "data_offsets", *offsets);
    require(range.size() == 2, rule, label, ": data_offsets must be two numbers");
    entry.begin = range[0], entry.end = range[1];
    return entry;
  }

  std::vector<int64_t> sizes(const std::string& label, const char* field, const Json& json) const {
    const char* rule = "InvalidHeaderDeserialization";
    require(json.is_array(), rule, label, ": ", field, " must be an array");
    std::vector<int64_t> result;
    for (const Json& item : json.items()) {
      require(item.is_integer() && item.as_int() >= 0, rule, label, ": ", field,
              " must hold non-negative integers below 2^63; got ", item.dump());
      result.push_back(item.as_int());
    }
    return result;
  }

  // Sorted by position, each tensor begins where the previous one ends: no holes, overlaps or
  // aliases.
  void check_offsets() {
    std::sort(header_.entries.begin(), header_.entries.end(), [](const auto& a, const auto& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    int64_t expected = 0;
    for (const auto& entry : header_.entries) {
      require(entry.begin == expected && entry.end >= entry.begin, "InvalidOffset", "tensor ",
              json_quote(entry.name), " lies at [", entry.begin, ", ", entry.end,
              ") but must begin at ", expected, ", where the previous one ends");
      expected = entry.end;
    }
  }

  void check_sizes() const {
    for (const auto& entry : header_.entries) {
      const std::string label = "tensor " + json_quote(entry.name);
      int64_t bits = 1;
      bool overflow = false;
      for (const int64_t size : entry.shape) overflow |= __builtin_mul_overflow(bits, size, &bits);
      overflow |= __builtin_mul_overflow(bits, entry.type->bits, &bits);
      require(!overflow, "ValidationOverflow", label, " has more elements than fit in 63 bits");
      require(bits % 8 == 0, "MisalignedSlice", label, " of ", entry.type->name,
              " does not fill whole bytes");
      require(entry.end - entry.begin == bits / 8, "TensorInvalidInfo", label, " needs ", bits / 8,
              " bytes for its shape and dtype; data_offsets give ", entry.end - entry.begin);
    }
  }

  std::string_view file_;
  const std::string& path_;
  SafetensorsHeader header_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& path) {
  return Validator(file, path).run();
}

const char* safetensors_type_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "F64";
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::i64:
      return "I64";
    case DType::i32:
      return "I32";
    case DType::u8:
      return "U8";
    case DType::bool_:
      return "BOOL";
  }
  fail("[safetensors] invalid dtype value ", static_cast<int>(dtype));
}

}  // namespace tendril::detail
