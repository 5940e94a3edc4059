#include <doctest/doctest.h>

#include <numeric>
#include <string>

#include <tendril/core/crc32c.h>

using namespace tendril;

namespace {

uint32_t crc_of(const std::string& text) { return crc32c(text.data(), text.size()); }

std::string ascending(int count) {
  std::string bytes(static_cast<size_t>(count), '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  return bytes;
}

// The definition, bit by bit.
uint32_t slow_crc(const std::string& text) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

}  // namespace

TEST_SUITE_BEGIN("crc32c");

TEST_CASE("known answers") {
  CHECK(crc32c(nullptr, 0) == 0);
  CHECK(crc_of("123456789") == 0xE3069283);
  // RFC 3720, appendix B.4
  CHECK(crc_of(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc_of(std::string(32, '\xFF')) == 0x62A8AB43);
  const std::string up = ascending(32);
  CHECK(crc_of(up) == 0x46DD794E);
  CHECK(crc_of({up.rbegin(), up.rend()}) == 0x113FDB5C);
}

TEST_CASE("every length and alignment gives what the definition gives") {
  const std::string bytes = ascending(128);
  for (size_t begin = 0; begin < 9; ++begin)
    for (size_t length = 0; begin + length <= 100; ++length) {
      CAPTURE(begin);
      CAPTURE(length);
      CHECK(crc32c(bytes.data() + begin, length) == slow_crc(bytes.substr(begin, length)));
    }
}

TEST_CASE("pieces give what the whole gives") {
  const std::string bytes = ascending(64);
  const uint32_t whole = crc_of(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut)
    CHECK(crc32c(bytes.data() + cut, bytes.size() - cut, crc32c(bytes.data(), cut)) == whole);
}

TEST_CASE("every changed byte shows") {
  std::string bytes = ascending(40);
  const uint32_t whole = crc_of(bytes);
  for (char& byte : bytes)
    for (int change = 1; change < 256; ++change) {
      const char before = byte;
      byte = static_cast<char>(byte ^ change);
      CHECK(crc_of(bytes) != whole);
      byte = before;
    }
}

TEST_SUITE_END();
