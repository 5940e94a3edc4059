// The arithmetic of attention's CUDA kernels that needs no GPU: which tiles of scores exist, and
// where the chunks of a tile lie in shared memory.
#include <doctest/doctest.h>

#include <set>

#include <tendril/core/cuda/tile.h>
#include <tendril/core/ops/attention_bounds.h>

using namespace tendril;
using ops::AttentionBounds;

namespace {

// As attention.h says it.
bool sees(const AttentionBounds& bounds, int64_t t, int64_t s) {
  const int64_t position = t + bounds.Tk - bounds.Tq;
  if (bounds.causal && s > position) return false;
  return bounds.window == 0 || s > position - bounds.window;
}

const AttentionBounds kBounds[] = {
    {7, 7, true, 0},  {7, 7, false, 0}, {5, 9, true, 0}, {9, 5, true, 0}, {8, 8, true, 3},
    {6, 11, true, 2}, {11, 6, true, 4}, {4, 4, true, 8}, {1, 6, true, 1}, {6, 1, false, 0},
};

// Every chunk has a place of its own, and any eight rows of one chunk column (what a warp loads at
// once) as well as eight chunks of neighbouring places lie in different groups of banks.
template <int kColumns>
void check_tile() {
  constexpr int kRows = 32, kChunks = kColumns / 8;
  std::set<uint32_t> places;
  for (int row = 0; row < kRows; ++row)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const uint32_t place = cuda::chunk_offset<kColumns>(row, chunk);
      CHECK(place % 16 == 0);
      CHECK(place / (kColumns * 2) == static_cast<uint32_t>(row));  // within its own row
      places.insert(place);
    }
  CHECK(places.size() == kRows * kChunks);
  for (int row = 0; row < kRows; row += 8)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      std::set<uint32_t> banks;
      for (int i = 0; i < 8; ++i)
        banks.insert(cuda::chunk_offset<kColumns>(row + i, chunk) / 16 % 8);
      CHECK(banks.size() == 8);
    }
}

}  // namespace

TEST_SUITE("attention tiles") {
  TEST_CASE("ranges of keys and of queries hold exactly what is seen") {
    for (const AttentionBounds& bounds : kBounds)
      for (int64_t t = 0; t < bounds.Tq; ++t)
        for (int64_t s = 0; s < bounds.Tk; ++s) {
          CAPTURE(bounds.Tq);
          CAPTURE(bounds.Tk);
          CAPTURE(bounds.window);
          CHECK((s >= bounds.first_key(t) && s < bounds.last_key(t)) == sees(bounds, t, s));
          CHECK((t >= bounds.first_query(s) && t < bounds.last_query(s)) == sees(bounds, t, s));
        }
  }

  TEST_CASE("a tile is taken for full or empty only when it is") {
    for (const AttentionBounds& bounds : kBounds)
      for (const int64_t queries : {1, 2, 4})
        for (const int64_t keys : {1, 3, 4})
          for (int64_t t = 0; t < bounds.Tq; t += queries)
            for (int64_t s = 0; s < bounds.Tk; s += keys) {
              int64_t seen = 0, real_queries = 0;
              for (int64_t i = t; i < t + queries && i < bounds.Tq; ++i, ++real_queries)
                for (int64_t j = s; j < s + keys && j < bounds.Tk; ++j) seen += sees(bounds, i, j);
              if (bounds.sees_all(t, queries, s, keys)) CHECK(seen == real_queries * keys);
              if (bounds.sees_none(t, queries, s, keys)) CHECK(seen == 0);
              if (t + queries <= bounds.Tq && s + keys <= bounds.Tk) {  // then both are exact
                CHECK(bounds.sees_all(t, queries, s, keys) == (seen == queries * keys));
              }
            }
  }

  TEST_CASE("the swizzle keeps chunks apart, in memory and in the banks") {
    check_tile<32>();
    check_tile<64>();
    check_tile<96>();
    check_tile<128>();
  }
}
