#include <tendril/core/safetensors.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <tendril/core/file.h>
#include <tendril/core/json.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/safetensors_header.h>
#include <tendril/core/strided.h>

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

// ---- writing

namespace {

using Entry = std::pair<const std::string, Tensor>;

std::vector<const Entry*> in_file_order(const std::map<std::string, Tensor>& tensors) {
  std::vector<const Entry*> order;
  for (const Entry& entry : tensors) {
    const auto& [name, tensor] = entry;
    TENDRIL_CHECK(name != "__metadata__",
                  "[save_safetensors] \"__metadata__\" cannot be a tensor's name");
    TENDRIL_CHECK(tensor.defined(), "[save_safetensors] tensor ", name, " is undefined");
    order.push_back(&entry);
  }
  // Widest elements first: then each tensor starts at a multiple of its element size. The map is
  // sorted by name, which the stable sort keeps.
  std::stable_sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });
  return order;
}

std::string header_text(const std::vector<const Entry*>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  const auto member = [&](const std::string& name, const Json& value) {
    if (text.size() > 1) text += ',';
    text += json_quote(name);
    text += ':';
    text += value.dump();
  };
  if (!metadata.empty()) {
    Json strings = Json::object();
    for (const auto& [key, value] : metadata) strings.set(key, value);
    member("__metadata__", strings);
  }
  int64_t offset = 0;
  for (const Entry* entry : order) {
    const Tensor& tensor = entry->second;
    Json shape = Json::array();
    for (const int64_t size : tensor.shape()) shape.push_back(size);
    const int64_t end = offset + tensor.nbytes();
    Json description = Json::object();
    description.set("dtype", detail::safetensors_type_name(tensor.dtype()));
    description.set("shape", std::move(shape));
    description.set("data_offsets", Json::Array{offset, end});
    member(entry->first, description);
    offset = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  TENDRIL_CHECK(text.size() <= detail::kMaxSafetensorsHeader,
                "[save_safetensors] the header would have ", text.size(), " bytes; at most ",
                detail::kMaxSafetensorsHeader,
                " are allowed; split the tensors over several files");
  return text;
}

// Elements in row-major order through a buffer; Word is an unsigned integer of the element's size.
template <class Word>
void write_strided(AtomicFile& file, const Tensor& tensor) {
  const Word* data = static_cast<const Word*>(tensor.raw_data());
  std::vector<Word> buffer;
  buffer.reserve(static_cast<size_t>(std::min<int64_t>(tensor.numel(), 1 << 16)));
  for_each_offset(tensor.shape(), tensor.strides(), [&](int64_t offset) {
    buffer.push_back(data[offset]);
    if (buffer.size() < buffer.capacity()) return;
    file.write(buffer.data(), buffer.size() * sizeof(Word));
    buffer.clear();
  });
  file.write(buffer.data(), buffer.size() * sizeof(Word));
}

void write_numbers(AtomicFile& file, const Tensor& tensor) {
  if (!tensor.device().is_cpu()) {  // one tensor at a time: the host needs no room for all
    const Tensor here = Tensor::empty(tensor.shape(), tensor.dtype());
    ops::copy(here, tensor);
    return write_numbers(file, here);
  }
  if (tensor.is_contiguous())
    return file.write(tensor.raw_data(), static_cast<size_t>(tensor.nbytes()));
  switch (size_of(tensor.dtype())) {
    case 8:
      return write_strided<uint64_t>(file, tensor);
    case 4:
      return write_strided<uint32_t>(file, tensor);
    case 2:
      return write_strided<uint16_t>(file, tensor);
    default:
      return write_strided<uint8_t>(file, tensor);
  }
}

}  // namespace

void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors);
  const std::string header = header_text(order, metadata);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const Entry* entry : order) write_numbers(file, entry->second);
  file.commit();
}

}  // namespace tendril
