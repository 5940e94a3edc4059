#include <tendril/trainer/data/collator.h>

#include <algorithm>
#include <utility>

#include <tendril/core/error.h>
#include <tendril/core/ops/copy.h>
#include <tendril/trainer/data/column.h>

namespace tendril {
namespace {

int64_t round_up(int64_t length, int64_t multiple) {
  return multiple > 1 ? (length + multiple - 1) / multiple * multiple : length;
}

bool is_sequence(const Column& column) {
  return std::all_of(column.rows.begin(), column.rows.end(),
                     [](const Tensor* row) { return row->rank() == 1 && row->device().is_cpu(); });
}

std::vector<int64_t> lengths_of(const Column& column) {
  std::vector<int64_t> lengths;
  lengths.reserve(column.rows.size());
  for (const Tensor* row : column.rows) lengths.push_back(row->numel());
  return lengths;
}

int64_t padding_of(const Column& column, int64_t pad_token_id) {
  if (column.name == "input_ids") return pad_token_id;
  return name_in_batch(column.name) == "labels" || column.name == "shift_labels" ? -100 : 0;
}

// (B, T): 1 where row i has a token, 0 behind it.
Tensor attention_mask(const std::vector<int64_t>& lengths, int64_t T) {
  const auto B = static_cast<int64_t>(lengths.size());
  const Tensor mask = Tensor::empty({B, T}, i64);
  int64_t* row = mask.data<int64_t>();
  for (int64_t i = 0; i < B; ++i, row += T) {
    const int64_t length = lengths[static_cast<size_t>(i)];
    std::fill(row, row + length, 1);
    std::fill(row + length, row + T, 0);
  }
  return mask;
}

// The column as one tensor: padded if it is a sequence, `tokens` being the lengths of input_ids
// (empty without any), else stacked.
Tensor pad_or_stack(const Column& column, const std::vector<int64_t>& tokens, int64_t pad_token_id,
                    int64_t multiple) {
  if (!is_sequence(column)) return stack_column(column);
  const std::vector<int64_t> lengths = lengths_of(column);
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  const bool pads = lengths == tokens || *least != *most;
  return pads ? pad_column(column, round_up(*most, multiple), padding_of(column, pad_token_id))
              : stack_column(column);
}

Batch pad_examples(const char* op, const std::vector<Example>& examples, int64_t pad_token_id,
                   int64_t multiple) {
  TENDRIL_CHECK(multiple >= 0 && multiple <= 1 << 20, "[", op,
                "] pad_to_multiple_of must be in [0, 2^20]; got ", multiple);
  const std::vector<Column> columns = columns_of(op, examples);
  std::vector<int64_t> tokens;
  for (const Column& column : columns)
    if (column.name == "input_ids" && is_sequence(column)) tokens = lengths_of(column);
  Batch batch;
  for (const Column& column : columns)
    add_column(batch, column, pad_or_stack(column, tokens, pad_token_id, multiple));
  if (!tokens.empty() && !batch.contains("attention_mask"))
    batch.emplace("attention_mask", attention_mask(tokens, batch.at("input_ids").size(1)));
  return batch;
}

bool has_targets(const Example& example) {
  return std::any_of(example.begin(), example.end(), [](const auto& member) {
    return name_in_batch(member.first) == "labels" || member.first == "shift_labels";
  });
}

}  // namespace

Batch default_data_collator(const std::vector<Example>& examples) {
  Batch batch;
  for (const Column& column : columns_of("default_data_collator", examples))
    add_column(batch, column, stack_column(column));
  return batch;
}

Batch DataCollatorWithPadding::operator()(const std::vector<Example>& examples) const {
  return pad_examples("DataCollatorWithPadding", examples, pad_token_id, pad_to_multiple_of);
}

Batch DataCollatorForLanguageModeling::operator()(const std::vector<Example>& examples) const {
  constexpr const char* kOp = "DataCollatorForLanguageModeling";
  std::vector<Example> labelled = examples;
  for (size_t i = 0; i < labelled.size(); ++i) {
    if (has_targets(labelled[i])) continue;
    const auto tokens = labelled[i].find("input_ids");
    TENDRIL_CHECK(tokens != labelled[i].end() && tokens->second.defined(), "[", kOp, "] example ",
                  i, " of the batch has no input_ids");
    // In i64, as small token types cannot say -100.
    labelled[i]["labels"] = ops::cast(tokens->second, i64);
  }
  return pad_examples(kOp, labelled, pad_token_id, pad_to_multiple_of);
}

}  // namespace tendril
