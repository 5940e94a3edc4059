#include <tendril/dist/store/store_frame.h>

#include <tendril/core/error.h>

namespace tendril::dist {
namespace {

constexpr size_t kLengthBytes = 4, kHeadBytes = 1 + 8 + 4;

void put(std::string& bytes, uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xff);
}

uint64_t number_at(std::string_view bytes, size_t begin, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i)
    value |= uint64_t{static_cast<uint8_t>(bytes[begin + static_cast<size_t>(i)])} << (8 * i);
  return value;
}

}  // namespace

std::string encode(const Frame& frame) {
  const size_t length = kHeadBytes + frame.key.size() + frame.value.size();
  TENDRIL_CHECK(length <= Frame::largest, "[store] a value may have about 1 MiB; got ",
                frame.value.size(), " bytes for ", frame.key);
  std::string bytes;
  bytes.reserve(kLengthBytes + length);
  put(bytes, length, 4);
  put(bytes, frame.kind, 1);
  put(bytes, static_cast<uint64_t>(frame.number), 8);
  put(bytes, frame.key.size(), 4);
  return bytes + frame.key + frame.value;
}

std::optional<Frame> take_frame(std::string& bytes, size_t largest) {
  if (bytes.size() < kLengthBytes) return std::nullopt;
  const size_t length = number_at(bytes, 0, 4);
  TENDRIL_CHECK(length >= kHeadBytes && length <= largest, "[store] got a message of ", length,
                " bytes, which no store sends");
  if (bytes.size() < kLengthBytes + length) return std::nullopt;
  const size_t key = number_at(bytes, kLengthBytes + 9, 4);
  TENDRIL_CHECK(key <= length - kHeadBytes, "[store] got a key of ", key, " bytes in a message of ",
                length);
  Frame frame;
  frame.kind = static_cast<uint8_t>(bytes[kLengthBytes]);
  frame.number = static_cast<int64_t>(number_at(bytes, kLengthBytes + 1, 8));
  frame.key = bytes.substr(kLengthBytes + kHeadBytes, key);
  frame.value = bytes.substr(kLengthBytes + kHeadBytes + key, length - kHeadBytes - key);
  bytes.erase(0, kLengthBytes + length);
  return frame;
}

}  // namespace tendril::dist
