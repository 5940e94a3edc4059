// Columns of a batch: what the examples hold under one name, put together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tendril/trainer/batch.h>

namespace tendril {

/// One name with a tensor from each example, in order.
struct Column {
  const char* op;    // who asks, for errors
  std::string name;  // as the examples have it
  std::vector<const Tensor*> rows;
};

/// The columns of examples; the tensors stay theirs. Error unless all have the same names.
std::vector<Column> columns_of(const char* op, const std::vector<Example>& examples);

/// What a column is called in a batch: "label" and "label_ids" are "labels".
std::string name_in_batch(const std::string& name);
/// Adds it under that name; Error when two columns claim it.
void add_column(Batch& batch, const Column& column, Tensor values);

/// (...) each -> (B, ...). Error unless all rows have one shape, dtype and device.
Tensor stack_column(const Column& column);
/// (T_i) each, on the CPU -> (B, length), `padding` behind each row. Error unless the rows are of
/// one dtype, which can say the padding.
Tensor pad_column(const Column& column, int64_t length, int64_t padding);

}  // namespace tendril
