// The arithmetic of attention's CUDA kernels that needs no GPU: which tiles of scores exist, where
// the chunks of a tile lie in shared memory, and which packed sequence a block works on.
#include <doctest/doctest.h>

#include <set>
#include <vector>

#include <tendril/core/cuda/tile.h>
#include <tendril/core/ops/attention_bounds.h>
#include <tendril/core/ops/attention_sequences.cuh>

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

// What a block of packed sequences works on.
struct Place {
  int64_t sequence, block;
  bool operator==(const Place&) const = default;
};

// `count` sequences, many of them empty, of up to 9 queries and twice as many keys.
ops::PackedSequences uneven_sequences(int64_t count) {
  ops::PackedSequences sequences{{0}, {0}};
  for (int64_t i = 0; i < count; ++i) {
    sequences.q.push_back(sequences.q.back() + i * 7919 % 10);
    sequences.k.push_back(sequences.k.back() + i * 104729 % 19);
  }
  return sequences;
}

}  // namespace

TEST_SUITE("attention tiles") {
  TEST_CASE(
      "every block of packed sequences gets its own sequence, in as many launches as needed") {
    using Table = ops::cuda::SequenceTable;
    for (const int64_t count : {1, 2, 17, Table::kMost, Table::kMost + 1, 2 * Table::kMost + 5}) {
      CAPTURE(count);
      const ops::PackedSequences sequences = uneven_sequences(count);
      const auto blocks_of = [](int64_t Tq, int64_t Tk) { return (Tq + 3) / 4 + Tk / 5; };
      std::vector<Place> expected, got;
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i);
        const int64_t blocks =
            blocks_of(sequences.q[at + 1] - sequences.q[at], sequences.k[at + 1] - sequences.k[at]);
        for (int64_t block = 0; block < blocks; ++block) expected.push_back({i, block});
      }
      ops::cuda::AttentionForward all;
      all.H = all.Hk = 2;
      all.bounds = {sequences.q.back(), sequences.k.back()};
      all.all_queries = all.bounds.Tq;
      all.mask_strides[2] = 100, all.mask_strides[3] = 1;
      all.key.position = 1000;
      all.q.row = 3, all.k.row = 5;
      std::vector<float> q(static_cast<size_t>(3 * all.bounds.Tq + 1)),
          k(static_cast<size_t>(5 * all.bounds.Tk + 1));
      all.q.data = q.data(), all.k.data = k.data();
      int64_t launches = 0;
      const auto launch = [&](const Table& table, int64_t blocks) {
        ++launches;
        for (int64_t block = 0; block < blocks; ++block) {
          const ops::cuda::SequenceWork<float, ops::cuda::AttentionForward> work(
              all, table, static_cast<uint32_t>(block));
          const auto& own = work.problem;
          const auto i = static_cast<size_t>(own.key.position - 1000);
          got.push_back({static_cast<int64_t>(i), work.block});
          REQUIRE(i < static_cast<size_t>(count));
          CHECK(own.bounds.Tq == sequences.q[i + 1] - sequences.q[i]);
          CHECK(own.bounds.Tk == sequences.k[i + 1] - sequences.k[i]);
          CHECK(own.q.data == q.data() + 3 * sequences.q[i]);
          CHECK(own.k.data == k.data() + 5 * sequences.k[i]);
          CHECK(own.statistic(0, 1, 0) == all.bounds.Tq + sequences.q[i]);
          CHECK(own.mask_begin == 100 * sequences.q[i] + sequences.k[i]);
        }
      };
      ops::cuda::for_each_table(all.bounds, &sequences, blocks_of, launch);
      CHECK(got == expected);
      CHECK(launches == (count + Table::kMost - 1) / Table::kMost);
    }
  }

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
