// Which examples of a pass are in which batch of which process.
//
// Number the places of a pass 0, 1, 2, ...; batch g of all processes holds the places [g B, (g + 1)
// B) and goes to rank g mod W, so that W batches in a row, a round, keep all ranks busy. Place p
// holds the p-th example of the pass; when the last round is completed the places go on past the n
// examples, from the beginning again: place p holds example p mod n.
#pragma once

#include <cstdint>
#include <optional>

#include <tendril/core/api.h>

namespace tendril {

struct BatchRules {
  int64_t batch_size = 1;            // B
  int64_t rank = 0, world_size = 1;  // W
  bool drop_last = false;            // what fills no batch (W > 1: no round) is left out
  bool even_batches = true;          // W > 1: the last round is completed

  int64_t round_size() const { return batch_size * world_size; }
  bool completes_rounds() const { return world_size > 1 && even_batches && !drop_last; }
  /// The first place of batch `number` of this rank.
  int64_t begin_of(int64_t number) const { return (number * world_size + rank) * batch_size; }
};

/// The same, of a pass with a known number of examples.
class BatchPlan {
 public:
  BatchPlan(int64_t examples, const BatchRules& rules);

  /// Batches of this rank.
  int64_t size() const { return batches_; }
  struct Places {
    int64_t begin, end;
  };
  Places places_of(int64_t number) const;
  /// Which example of the pass is at a place.
  int64_t example_at(int64_t place) const { return place < examples_ ? place : place % examples_; }

 private:
  int64_t examples_;
  BatchRules rules_;
  int64_t places_;  // of all ranks
  int64_t batches_;
};

}  // namespace tendril
