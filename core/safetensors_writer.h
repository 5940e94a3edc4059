// Writing a safetensors file whose tensors need not be in memory together: all names and shapes
// first, then the numbers, a piece at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <tendril/core/file.h>
#include <tendril/core/tensor.h>

namespace tendril {

class TENDRIL_API SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype = f32;
    Shape shape;
  };

  /// Error for a name twice, one that is "__metadata__" or not UTF-8, and a file that cannot be
  /// made.
  SafetensorsWriter(const std::string& path, std::vector<Entry> entries,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  /// In the order of the file, in which the numbers must come: widest elements first, then by name.
  const std::vector<Entry>& entries() const { return entries_; }

  /// The next elements, row-major, of the first entry that is not complete; any device, any
  /// strides. Error for another dtype, for more elements than are missing, and when writing fails.
  void write(const Tensor& elements);

  /// Syncs the file and gives it its name. Error when elements are missing.
  void commit();

  /// Of all that was written until now, the header included.
  int64_t bytes() const { return bytes_; }
  uint32_t crc32c() const { return crc32c_; }

 private:
  void append(const void* data, size_t bytes);
  template <class Word>
  void append_strided(const Tensor& elements);
  void append_numbers(const Tensor& elements);
  void skip_complete();

  std::vector<Entry> entries_;
  AtomicFile file_;
  size_t next_ = 0;      // the entry whose elements come next
  int64_t written_ = 0;  // elements of it
  int64_t bytes_ = 0;
  uint32_t crc32c_ = 0;
};

}  // namespace tendril
