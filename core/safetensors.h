// safetensors files: a JSON header and raw little-endian numbers
// (https://github.com/huggingface/safetensors).
//
//   8 bytes       N, the length of the header, unsigned, little-endian
//   N bytes       {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//   the rest      the tensors' numbers, row-major, without gaps
//
// Reading trusts nothing: every size and offset is checked before it is used, and a file that
// breaks a rule is refused with the rule's name (HeaderTooSmall, InvalidOffset, ...), never
// repaired.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril {

/// An open file. Its tensors are views of the mapped file: opening reads the header only, and pages
/// come in when numbers are read. Copies of the handle share the mapping; tensors keep it alive.
class TENDRIL_API SafetensorsFile {
 public:
  /// Maps the file and validates the whole header. Error when the file cannot be read or is
  /// invalid.
  static SafetensorsFile open(const std::string& path);

  /// In the order of the data in the file.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  /// The tensor, without copying where the data is aligned to its element type. Changing it in
  /// place changes memory only, never the file. I8 and I16 are widened to i32. Error when there is
  /// no such name, when the dtype is one that Tendril does not have (U16, F8_E4M3, ...) or when a
  /// BOOL is neither 0 nor 1.
  Tensor tensor(const std::string& name) const;
  /// The file's "__metadata__", for instance {"format": "pt"}.
  const std::map<std::string, std::string>& metadata() const;

 private:
  struct Contents;
  explicit SafetensorsFile(std::shared_ptr<const Contents> contents)
      : contents_(std::move(contents)) {}

  std::shared_ptr<const Contents> contents_;
};

/// All tensors of a file.
TENDRIL_API std::map<std::string, Tensor> load_safetensors(const std::string& path);

/// Writes tensors of any device; strided ones in row-major order. Tensors that share memory are
/// written once per name. The file appears under its name only when it is complete and synced. Error
/// when a tensor is undefined, a name is "__metadata__" or not UTF-8, or writing fails.
TENDRIL_API void save_safetensors(const std::string& path,
                                  const std::map<std::string, Tensor>& tensors,
                                  const std::map<std::string, std::string>& metadata = {
                                      {"format", "pt"}});

}  // namespace tendril
