// Collators: from examples to a batch.
#pragma once

#include <functional>

#include <tendril/trainer/batch.h>

namespace tendril {

/// Must be a function of the examples alone; loader threads call it at the same time.
using DataCollator = std::function<Batch(const std::vector<Example>& examples)>;

/// Stacks each column, (...) -> (B, ...); 0-d columns give (B). "label" and "label_ids" become
/// "labels". Error that names column, example and what differs when the examples do not have the
/// same columns, shapes, dtypes and device.
TENDRIL_API Batch default_data_collator(const std::vector<Example>& examples);

/// Pads columns of one axis (T_i) to the longest with what fits each: input_ids with pad_token_id,
/// labels and shift_labels with -100, the rest with 0; adds attention_mask (B, T) of i64 unless
/// there is one, 1 for the tokens of input_ids and 0 for the padding. Columns as long as input_ids
/// in every example get its padded length; others their own, and only if their lengths differ: a
/// column of fixed size stays as it is. Columns of no or several axes are stacked.
struct TENDRIL_API DataCollatorWithPadding {
  int64_t pad_token_id = 0;
  int64_t pad_to_multiple_of = 0;  // 0: just the longest
  Batch operator()(const std::vector<Example>& examples) const;
};

/// The same for causal language models: labels are a copy of input_ids where an example brings
/// neither labels nor shift_labels, with -100 on the padding.
struct TENDRIL_API DataCollatorForLanguageModeling {
  int64_t pad_token_id = 0;
  int64_t pad_to_multiple_of = 0;
  Batch operator()(const std::vector<Example>& examples) const;
};

}  // namespace tendril
