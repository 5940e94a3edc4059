// How the batches of one pass come to be.
#pragma once

#include <cstdint>
#include <memory>

#include <tendril/trainer/data/batch_plan.h>
#include <tendril/trainer/data/prefetcher.h>

namespace tendril {

/// Batches of examples asked for by number, in the order of the sampler (null: their own).
BatchMaker batches_by_number(std::shared_ptr<const Dataset> dataset,
                             const DataLoaderOptions& options, const BatchRules& rules,
                             int64_t epoch);

/// Batches of examples that come one after the other, from batch `first` on. To be called from one
/// thread at a time, with first, first + 1, ...
BatchMaker batches_in_turn(std::shared_ptr<const IterableDataset> dataset,
                           const DataLoaderOptions& options, const BatchRules& rules,
                           int64_t epoch);

}  // namespace tendril
