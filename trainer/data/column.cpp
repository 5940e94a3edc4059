#include <tendril/trainer/data/column.h>

#include <algorithm>
#include <cstring>

#include <tendril/core/error.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>

namespace tendril {
namespace {

std::string names_of(const Example& example) {
  std::string names;
  for (const auto& member : example) names += (names.empty() ? "" : ", ") + member.first;
  return "{" + names + "}";
}

void require_alike(const Column& column, bool same_shape) {
  const Tensor& first = *column.rows[0];
  for (size_t i = 1; i < column.rows.size(); ++i) {
    const Tensor& row = *column.rows[i];
    TENDRIL_CHECK(row.dtype() == first.dtype(), "[", column.op, "] column \"", column.name,
                  "\": example ", i, " of the batch holds ", row.dtype(), ", example 0 holds ",
                  first.dtype(), "; they must agree");
    TENDRIL_CHECK(row.device() == first.device(), "[", column.op, "] column \"", column.name,
                  "\": example ", i, " of the batch is on ", row.device(), ", example 0 on ",
                  first.device(), "; they must agree");
    TENDRIL_CHECK(!same_shape || row.shape() == first.shape(), "[", column.op, "] column \"",
                  column.name, "\": example ", i, " of the batch has shape ", row.shape(),
                  ", example 0 has ", first.shape(),
                  "; they must be equal, or sequences in a collator that pads");
  }
}

// Copies a row to its place, `row` of the same shape in dense memory.
void copy_row(const Tensor& row, const Tensor& batch, int64_t index, int64_t stride) {
  const int64_t offset = index * stride;
  if (row.device().is_cpu() && row.is_contiguous()) {
    if (row.numel() > 0)
      std::memcpy(static_cast<char*>(batch.raw_data()) + offset * size_of(row.dtype()),
                  row.raw_data(), static_cast<size_t>(row.nbytes()));
    return;
  }
  ops::copy(Tensor::view(batch.storage(), offset, row.shape(), contiguous_strides(row.shape()),
                         row.dtype()),
            row);
}

}  // namespace

std::vector<Column> columns_of(const char* op, const std::vector<Example>& examples) {
  TENDRIL_CHECK(!examples.empty(), "[", op, "] a batch needs at least one example; got none");
  std::vector<Column> columns;
  for (const auto& member : examples[0]) {
    columns.push_back({op, member.first, {}});
    columns.back().rows.reserve(examples.size());
  }
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& example = examples[i];
    auto column = columns.begin();
    // Both are ordered by name.
    for (const auto& [name, tensor] : example) {
      if (column == columns.end() || column->name != name) break;
      TENDRIL_CHECK(tensor.defined(), "[", op, "] column \"", name, "\" of example ", i,
                    " of the batch is an undefined tensor");
      (column++)->rows.push_back(&tensor);
    }
    TENDRIL_CHECK(column == columns.end() && example.size() == columns.size(), "[", op,
                  "] example ", i, " of the batch has the columns ", names_of(example),
                  ", example 0 has ", names_of(examples[0]), "; they must be the same");
  }
  return columns;
}

std::string name_in_batch(const std::string& name) {
  return name == "label" || name == "label_ids" ? "labels" : name;
}

void add_column(Batch& batch, const Column& column, Tensor values) {
  const bool added = batch.emplace(name_in_batch(column.name), std::move(values)).second;
  TENDRIL_CHECK(added, "[", column.op, "] column \"", column.name, "\" and another both mean \"",
                name_in_batch(column.name), "\"; remove one");
}

Tensor stack_column(const Column& column) {
  require_alike(column, true);
  const Tensor& first = *column.rows[0];
  Shape shape = first.shape();
  shape.insert(0, static_cast<int64_t>(column.rows.size()));
  const Tensor batch = Tensor::empty(shape, first.dtype(), first.device());
  for (size_t i = 0; i < column.rows.size(); ++i)
    copy_row(*column.rows[i], batch, static_cast<int64_t>(i), first.numel());
  return batch;
}

Tensor pad_column(const Column& column, int64_t length, int64_t padding) {
  require_alike(column, false);
  const DType dtype = column.rows[0]->dtype();
  const auto count = static_cast<int64_t>(column.rows.size());
  const Tensor batch = Tensor::empty({count, length}, dtype);
  visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    const T fill = ops::convert<T>(padding);
    TENDRIL_CHECK(ops::convert<int64_t>(fill) == padding, "[", column.op, "] column \"",
                  column.name, "\" of ", dtype, " cannot hold the padding ", padding,
                  "; use i64 or i32");
    for (int64_t i = 0; i < count; ++i) {
      const Tensor& row = *column.rows[static_cast<size_t>(i)];
      copy_row(row, batch, i, length);
      T* const begin = batch.data<T>() + i * length;
      std::fill(begin + row.numel(), begin + length, fill);
    }
  });
  return batch;
}

}  // namespace tendril
