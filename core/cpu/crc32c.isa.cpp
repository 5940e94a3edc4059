// x86-64 has an instruction for CRC-32C since SSE4.2, which every processor with AVX2 has;
// elsewhere eight bytes at a time go through tables ("slicing by 8": Kounavis and Berry, 2008).
#include <tendril/core/cpu/crc32c_run.h>

#include <cstring>

#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

namespace tendril::cpu::TENDRIL_ISA {

ISA_INLINE uint64_t load_word(const unsigned char* data) {
  uint64_t word;  // little-endian, as everywhere in Tendril
  std::memcpy(&word, data, sizeof word);
  return word;
}

#ifdef __SSE4_2__

uint32_t crc32c_run(const unsigned char* data, size_t bytes, uint32_t crc) {
  uint64_t wide = crc;
  for (; bytes >= 8; bytes -= 8, data += 8) wide = _mm_crc32_u64(wide, load_word(data));
  crc = static_cast<uint32_t>(wide);
  for (; bytes > 0; --bytes, ++data) crc = _mm_crc32_u8(crc, *data);
  return crc;
}

#else

// at[k][b]: what byte b does to the register when k more bytes follow it in the same word.
struct Tables {
  uint32_t at[8][256];
};

static consteval Tables make_tables() {
  constexpr uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41, lowest bit first
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables.at[0][byte] = crc;
  }
  for (int k = 1; k < 8; ++k)
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t shorter = tables.at[k - 1][byte];
      tables.at[k][byte] = (shorter >> 8) ^ tables.at[0][shorter & 0xFF];
    }
  return tables;
}

static constexpr Tables kTables = make_tables();

uint32_t crc32c_run(const unsigned char* data, size_t bytes, uint32_t crc) {
  for (; bytes >= 8; bytes -= 8, data += 8) {
    const uint64_t word = load_word(data) ^ crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kTables.at[7 - i][(word >> (8 * i)) & 0xFF];
  }
  for (; bytes > 0; --bytes, ++data) crc = (crc >> 8) ^ kTables.at[0][(crc ^ *data) & 0xFF];
  return crc;
}

#endif

}  // namespace tendril::cpu::TENDRIL_ISA
