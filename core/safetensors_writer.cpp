#include <tendril/core/safetensors_writer.h>

#include <algorithm>

#include <tendril/core/crc32c.h>
#include <tendril/core/json.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/safetensors_header.h>
#include <tendril/core/strided.h>

namespace tendril {
namespace {

using Entries = std::vector<SafetensorsWriter::Entry>;

Entries in_file_order(Entries entries) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string& name = entries[i].name;
    TENDRIL_CHECK(name != "__metadata__",
                  "[save_safetensors] \"__metadata__\" cannot be a tensor's name");
    TENDRIL_CHECK(i == 0 || entries[i - 1].name != name,
                  "[save_safetensors] there are two tensors ", name);
  }
  // Widest elements first: then each tensor starts at a multiple of its element size.
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return size_of(a.dtype) > size_of(b.dtype);
  });
  return entries;
}

std::string header_text(const Entries& entries,
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
  for (const auto& entry : entries) {
    Json shape = Json::array();
    for (const int64_t size : entry.shape) shape.push_back(size);
    const int64_t end = offset + entry.shape.numel() * size_of(entry.dtype);
    Json description = Json::object();
    description.set("dtype", detail::safetensors_type_name(entry.dtype));
    description.set("shape", std::move(shape));
    description.set("data_offsets", Json::Array{offset, end});
    member(entry.name, description);
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

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<Entry> entries,
                                     const std::map<std::string, std::string>& metadata)
    : entries_(in_file_order(std::move(entries))), file_(path) {
  const std::string header = header_text(entries_, metadata);
  const uint64_t length = header.size();
  append(&length, sizeof length);
  append(header.data(), header.size());
  skip_complete();
}

void SafetensorsWriter::append(const void* data, size_t bytes) {
  file_.write(data, bytes);
  crc32c_ = tendril::crc32c(data, bytes, crc32c_);
  bytes_ += static_cast<int64_t>(bytes);
}

// Elements in row-major order through a buffer; Word is an unsigned integer of the element's size.
template <class Word>
void SafetensorsWriter::append_strided(const Tensor& elements) {
  const Word* data = static_cast<const Word*>(elements.raw_data());
  std::vector<Word> buffer;
  buffer.reserve(static_cast<size_t>(std::min<int64_t>(elements.numel(), 1 << 16)));
  for_each_offset(elements.shape(), elements.strides(), [&](int64_t offset) {
    buffer.push_back(data[offset]);
    if (buffer.size() < buffer.capacity()) return;
    append(buffer.data(), buffer.size() * sizeof(Word));
    buffer.clear();
  });
  append(buffer.data(), buffer.size() * sizeof(Word));
}

void SafetensorsWriter::append_numbers(const Tensor& elements) {
  if (!elements.device().is_cpu()) {  // one tensor at a time: the host needs no room for all
    const Tensor here = Tensor::empty(elements.shape(), elements.dtype());
    ops::copy(here, elements);
    return append_numbers(here);
  }
  if (elements.is_contiguous())
    return append(elements.raw_data(), static_cast<size_t>(elements.nbytes()));
  switch (size_of(elements.dtype())) {
    case 8:
      return append_strided<uint64_t>(elements);
    case 4:
      return append_strided<uint32_t>(elements);
    case 2:
      return append_strided<uint16_t>(elements);
    default:
      return append_strided<uint8_t>(elements);
  }
}

void SafetensorsWriter::skip_complete() {
  while (next_ < entries_.size() && written_ == entries_[next_].shape.numel()) {
    ++next_;
    written_ = 0;
  }
}

void SafetensorsWriter::write(const Tensor& elements) {
  if (elements.numel() == 0) return;
  TENDRIL_CHECK(next_ < entries_.size(), "[save_safetensors] all tensors are complete; got ",
                elements.shape(), " more");
  const Entry& entry = entries_[next_];
  const int64_t missing = entry.shape.numel() - written_;
  TENDRIL_CHECK(elements.dtype() == entry.dtype && elements.numel() <= missing,
                "[save_safetensors] tensor ", entry.name, " lacks ", missing, " elements of ",
                entry.dtype, "; got ", elements.numel(), " of ", elements.dtype());
  append_numbers(elements);
  written_ += elements.numel();
  skip_complete();
}

void SafetensorsWriter::commit() {
  TENDRIL_CHECK(next_ == entries_.size(), "[save_safetensors] tensor ", entries_[next_].name,
                " is not complete; ", written_, " of ", entries_[next_].shape.numel(),
                " elements came");
  file_.commit();
}

}  // namespace tendril
