#include <tendril/core/safetensors.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <tendril/core/file.h>
#include <tendril/core/safetensors_header.h>
#include <tendril/core/safetensors_writer.h>

namespace tendril {

struct SafetensorsFile::Contents {
  std::string path;
  std::shared_ptr<MappedFile> file;
  detail::SafetensorsHeader header;
  std::unordered_map<std::string, size_t> index;  // name -> position in header.entries
};

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  auto contents = std::make_shared<Contents>();
  contents->path = path;
  contents->file = MappedFile::open(path);
  contents->header = detail::parse_safetensors_header(contents->file->text(), path);
  const auto& entries = contents->header.entries;
  for (size_t i = 0; i < entries.size(); ++i) contents->index.emplace(entries[i].name, i);
  return SafetensorsFile(std::move(contents));
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& entry : contents_->header.entries) result.push_back(entry.name);
  return result;
}

bool SafetensorsFile::contains(const std::string& name) const {
  return contents_->index.contains(name);
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return contents_->header.metadata;
}

namespace {

template <class Narrow>
Tensor widen(const char* data, const Shape& shape) {
  Tensor result = Tensor::empty(shape, i32);
  for (int32_t& value : result.span<int32_t>()) {
    Narrow narrow;  // possibly not aligned
    std::memcpy(&narrow, data, sizeof narrow);
    data += sizeof narrow;
    value = narrow;
  }
  return result;
}

}  // namespace

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = contents_->index.find(name);
  TENDRIL_CHECK(found != contents_->index.end(), "[safetensors] ", contents_->path,
                " has no tensor ", name);
  const auto& entry = contents_->header.entries[found->second];
  const auto& type = *entry.type;
  TENDRIL_CHECK(type.supported, "[safetensors] ", contents_->path, ": UnsupportedDtype: tensor ",
                name, " is ", type.name,
                ", which Tendril does not have; convert it to F32, BF16, F16 or an integer type");
  const Shape shape(entry.shape);
  char* data = contents_->file->data() + contents_->header.data_start + entry.begin;
  const int64_t bytes = entry.end - entry.begin;
  if (type.dtype == i32 && type.bits == 8) return widen<int8_t>(data, shape);
  if (type.dtype == i32 && type.bits == 16) return widen<int16_t>(data, shape);
  if (type.dtype == bool_) {  // any other byte is undefined behaviour in a C++ bool
    TENDRIL_CHECK(std::all_of(data, data + bytes, [](char byte) { return byte == 0 || byte == 1; }),
                  "[safetensors] ", contents_->path, ": InvalidBool: tensor ", name,
                  " has a byte that is neither 0 nor 1");
  }
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(type.dtype)) == 0)
    return Tensor::external(data, shape, type.dtype, contents_->file);
  Tensor copy = Tensor::empty(shape, type.dtype);
  if (bytes > 0) std::memcpy(copy.raw_data(), data, static_cast<size_t>(bytes));
  return copy;
}

std::map<std::string, Tensor> load_safetensors(const std::string& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, Tensor> result;
  for (const auto& name : file.names()) result.emplace(name, file.tensor(name));
  return result;
}

void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    TENDRIL_CHECK(tensor.defined(), "[save_safetensors] tensor ", name, " is undefined");
    entries.push_back({name, tensor.dtype(), tensor.shape()});
  }
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const auto& entry : writer.entries()) writer.write(tensors.at(entry.name));
  writer.commit();
}

}  // namespace tendril
