// The header of a safetensors file: parsed and validated, without touching the data.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/api.h>
#include <tendril/core/dtype.h>

namespace tendril::detail {

/// A dtype of the format. Those without a Tensor type (F8, F4, complex, U16 ...) are known, so that
/// their sizes can be checked, but not supported.
struct SafetensorsType {
  const char* name;
  int64_t bits;
  bool supported;
  DType dtype;  // what a Tensor of it holds: I8 and I16 become i32
};

struct SafetensorsEntry {
  std::string name;
  const SafetensorsType* type = nullptr;
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, relative to the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by begin
  std::map<std::string, std::string> metadata;
  int64_t data_start = 0;  // 8 + N
};

/// Applies the rules in the order of the format's reference implementation; Error names the first
/// broken one.
TENDRIL_API SafetensorsHeader parse_safetensors_header(std::string_view file,
                                                       const std::string& path);

/// The format's name of a Tensor's dtype, "F32".
TENDRIL_API const char* safetensors_type_name(DType dtype);

/// The header's text is limited to this many bytes, on reading and writing.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

}  // namespace tendril::detail
