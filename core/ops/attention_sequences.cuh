// Packed sequences in one launch: which of them a block works on, and its part of the problem.
// Private to core/ops/attention*.cu.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <tendril/core/error.h>
#include <tendril/core/ops/packed_attention.h>
#include <tendril/core/ops/attention_device.cuh>

namespace tendril::ops::cuda {

/// Travels in the kernel's parameters (at most 4 KB): nothing to copy, keep or invalidate. Longer
/// lists take several launches.
struct SequenceTable {
  static constexpr int kMost = 240;

  int32_t count = 0;                             // 0: the problem is one sequence
  int32_t first = 0;                             // number of the first one among all
  int32_t q[kMost + 1] = {}, k[kMost + 1] = {};  // where they start
  uint32_t end[kMost] = {};                      // blocks of this sequence and of those before it

  /// The sequence of this block, by bisection.
  TENDRIL_HD int32_t sequence_of(uint32_t block) const {
    int32_t low = 0, high = count - 1;
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (end[middle] > block)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

/// Takes its place in kernels that know one sequence only.
struct OneSequence {};

template <bool kPacked>
using Sequences = std::conditional_t<kPacked, SequenceTable, OneSequence>;

/// A block's sequence as a problem of its own, and the block's number in it.
template <class T, class Problem>
struct SequenceWork {
  Problem problem;
  uint32_t block;

  TENDRIL_HD SequenceWork(const Problem& all, const SequenceTable& table, uint32_t number)
      : problem(all), block(number) {
    if (table.count == 0) return;
    const int32_t i = table.sequence_of(number);
    if (i > 0) block -= table.end[i - 1];
    const int64_t q = table.q[i], k = table.k[i];
    problem.template skip<T>(q, k);
    problem.bounds.Tq = table.q[i + 1] - q;
    problem.bounds.Tk = table.k[i + 1] - k;
    problem.first_query = q;
    problem.mask_begin = q * all.mask_strides[2] + k * all.mask_strides[3];
    problem.key.position += static_cast<uint64_t>(table.first + i);
  }
};

/// The problem itself.
template <class Problem>
struct WholeWork {
  const Problem& problem;
  uint32_t block;

  TENDRIL_HD WholeWork(const Problem& all, OneSequence, uint32_t number)
      : problem(all), block(number) {}
};

/// The table as the kernel's parameter.
template <bool kPacked>
Sequences<kPacked> parameter_of(const SequenceTable& table) {
  if constexpr (kPacked)
    return table;
  else
    return {};
}

/// What SequenceWork or WholeWork give, by the table's type.
template <class T, class Problem, class Table>
using WorkOf = std::conditional_t<std::is_same_v<Table, OneSequence>, WholeWork<Problem>,
                                  SequenceWork<T, Problem>>;

/// Calls launch(table, blocks) until every sequence was in a table; once, with an empty one, when
/// there are no sequences. blocks_of(Tq, Tk) are the blocks of one sequence.
template <class BlocksOf, class Launch>
void for_each_table(const AttentionBounds& all, const PackedSequences* sequences,
                    const BlocksOf& blocks_of, const Launch& launch) {
  constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1;
  const auto checked = [&](int64_t blocks) {
    TENDRIL_CHECK(blocks <= kMostBlocks,
                  "[scaled_dot_product_attention] needs fewer than 2^31 blocks of queries or keys "
                  "in a sequence; got ",
                  blocks);
    return blocks;
  };
  SequenceTable table;
  if (!sequences) return launch(table, checked(blocks_of(all.Tq, all.Tk)));
  for (int64_t i = 0; i < sequences->count(); ++i) {
    const auto at = static_cast<size_t>(i);
    const int64_t own = checked(blocks_of(sequences->q[at + 1] - sequences->q[at],
                                          sequences->k[at + 1] - sequences->k[at]));
    int64_t before = table.count == 0 ? 0 : table.end[table.count - 1];
    if (table.count == SequenceTable::kMost || before + own > kMostBlocks) {
      launch(table, before);
      table.count = 0;
      before = 0;
    }
    if (table.count == 0) {
      table.first = static_cast<int32_t>(i);
      table.q[0] = static_cast<int32_t>(sequences->q[at]);
      table.k[0] = static_cast<int32_t>(sequences->k[at]);
    }
    table.end[table.count++] = static_cast<uint32_t>(before + own);
    table.q[table.count] = static_cast<int32_t>(sequences->q[at + 1]);
    table.k[table.count] = static_cast<int32_t>(sequences->k[at + 1]);
  }
  launch(table, table.end[table.count - 1]);
}

}  // namespace tendril::ops::cuda
