// From examples to a batch.
#include <doctest/doctest.h>

#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/trainer/data/collator.h>

#include "../test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor ids(std::vector<int64_t> values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

using Rows = std::vector<int64_t>;
Rows values(const Tensor& x) { return x.to_vector<int64_t>(); }

}  // namespace

TEST_SUITE("collators") {
  TEST_CASE("columns are stacked, scalars to (B)") {
    const Batch batch = default_data_collator(
        {{{"x", Tensor::from<float>({1, 2, 3, 4}, {2, 2})}, {"y", Tensor::from<int64_t>({7}, {})}},
         {{"x", Tensor::from<float>({5, 6, 7, 8}, {2, 2})}, {"y", Tensor::from<int64_t>({8}, {})}},
         {{"x", Tensor::from<float>({9, 0, 1, 2}, {2, 2})},
          {"y", Tensor::from<int64_t>({9}, {})}}});
    REQUIRE(batch.size() == 2);
    CHECK(batch.at("x").shape() == Shape{3, 2, 2});
    CHECK(batch.at("x").dtype() == f32);
    CHECK(values(batch.at("x")) == Rows{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2});
    CHECK(batch.at("y").shape() == Shape{3});
    CHECK(values(batch.at("y")) == Rows{7, 8, 9});
  }

  TEST_CASE("rows may have any layout and dtype") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    const Batch batch = default_data_collator({{{"x", transpose(x)}}, {{"x", transpose(x)}}});
    CHECK(values(batch.at("x")) == Rows{1, 4, 2, 5, 3, 6, 1, 4, 2, 5, 3, 6});
    for (const DType dtype : {f64, f32, bf16, f16, i64, i32, u8, bool_}) {
      const Batch typed = default_data_collator({{{"x", to(ids({1, 0}), dtype)}}});
      CHECK(typed.at("x").dtype() == dtype);
      CHECK(values(typed.at("x")) == Rows{1, 0});
    }
    const Batch empty = default_data_collator({{{"x", Tensor::empty({0, 3})}}});
    CHECK(empty.at("x").shape() == Shape{1, 0, 3});
  }

  TEST_CASE("a batch shares no memory with its examples") {
    const Tensor row = ids({1, 2});
    const Batch batch = default_data_collator({{{"x", row}}});
    row.data<int64_t>()[0] = 50;
    CHECK(values(batch.at("x")) == Rows{1, 2});
  }

  TEST_CASE("label and label_ids become labels") {
    for (const char* name : {"label", "label_ids", "labels"}) {
      const Batch batch = default_data_collator({{{name, ids({3})}}});
      REQUIRE(batch.size() == 1);
      CHECK(values(batch.at("labels")) == Rows{3});
    }
    CHECK(contains(message_of([] {
                     default_data_collator({{{"label", ids({3})}, {"labels", ids({3})}}});
                   }),
                   "\"labels\" and another both mean \"labels\""));
  }

  TEST_CASE("what does not fit together is named: column, example, shapes") {
    const auto message = message_of([] {
      default_data_collator({{{"x", ids({1, 2})}}, {{"x", ids({1, 2})}}, {{"x", ids({1, 2, 3})}}});
    });
    for (const char* part : {"[default_data_collator]", "\"x\"", "example 2", "(3,)", "(2,)"})
      CHECK(contains(message, part));
    const auto dtypes = message_of([] {
      default_data_collator({{{"x", ids({1})}}, {{"x", Tensor::from<float>({1}, {1})}}});
    });
    for (const char* part : {"\"x\"", "example 1", "f32", "i64"}) CHECK(contains(dtypes, part));
    const auto names = message_of([] {
      default_data_collator(
          {{{"x", ids({1})}, {"z", ids({1})}}, {{"x", ids({1})}, {"y", ids({1})}}});
    });
    for (const char* part : {"example 1", "{x, y}", "{x, z}"}) CHECK(contains(names, part));
    CHECK(contains(message_of([] { default_data_collator({{{"x", ids({1})}}, {}}); }), "{}"));
    CHECK(contains(message_of([] { default_data_collator({{}, {{"x", ids({1})}}}); }), "{x}"));
    CHECK(contains(message_of([] { default_data_collator({}); }), "at least one example"));
    CHECK(contains(message_of([] { default_data_collator({{{"x", Tensor()}}}); }), "undefined"));
  }

  TEST_CASE("padding goes to the longest, with what fits the column") {
    const DataCollatorWithPadding collate{.pad_token_id = 9};
    const Batch batch = collate({{{"input_ids", ids({1, 2, 3})},
                                  {"labels", ids({4, 5, 6})},
                                  {"shift_labels", ids({7, 7, 7})},
                                  {"token_type_ids", ids({1, 1, 1})}},
                                 {{"input_ids", ids({8})},
                                  {"labels", ids({9})},
                                  {"shift_labels", ids({6})},
                                  {"token_type_ids", ids({1})}}});
    REQUIRE(batch.size() == 5);
    CHECK(batch.at("input_ids").shape() == Shape{2, 3});
    CHECK(values(batch.at("input_ids")) == Rows{1, 2, 3, 8, 9, 9});
    CHECK(values(batch.at("labels")) == Rows{4, 5, 6, 9, -100, -100});
    CHECK(values(batch.at("shift_labels")) == Rows{7, 7, 7, 6, -100, -100});
    CHECK(values(batch.at("token_type_ids")) == Rows{1, 1, 1, 1, 0, 0});
    CHECK(batch.at("attention_mask").dtype() == i64);
    CHECK(values(batch.at("attention_mask")) == Rows{1, 1, 1, 1, 0, 0});
  }

  TEST_CASE("padding to a multiple") {
    const DataCollatorWithPadding collate{.pad_token_id = 0, .pad_to_multiple_of = 4};
    CHECK(collate({{{"input_ids", ids({1, 2, 3, 4})}}}).at("input_ids").shape() == Shape{1, 4});
    const Batch batch = collate({{{"input_ids", ids({1, 2, 3, 4, 5})}}});
    CHECK(values(batch.at("input_ids")) == Rows{1, 2, 3, 4, 5, 0, 0, 0});
    CHECK(values(batch.at("attention_mask")) == Rows{1, 1, 1, 1, 1, 0, 0, 0});
    CHECK(contains(message_of([] {
                     DataCollatorWithPadding{.pad_to_multiple_of = -1}({{{"x", ids({1})}}});
                   }),
                   "pad_to_multiple_of"));
  }

  TEST_CASE("a mask of one's own is kept and padded with 0") {
    const Batch batch = DataCollatorWithPadding{}(
        {{{"input_ids", ids({1, 2, 3})}, {"attention_mask", ids({0, 1, 1})}},
         {{"input_ids", ids({4, 5})}, {"attention_mask", ids({1, 1})}}});
    CHECK(values(batch.at("attention_mask")) == Rows{0, 1, 1, 1, 1, 0});
  }

  TEST_CASE("columns that are no sequences of tokens are stacked, those of other lengths padded") {
    const DataCollatorWithPadding collate{.pad_to_multiple_of = 4};
    const Batch batch = collate({{{"input_ids", ids({1, 2, 3})},
                                  {"label", Tensor::from<int64_t>({1}, {})},
                                  {"features", Tensor::from<float>({.5f, .25f}, {2})},
                                  {"picture", Tensor::from<float>({1, 2}, {1, 2})},
                                  {"spans", ids({1, 2, 3, 4, 5})}},
                                 {{"input_ids", ids({4})},
                                  {"label", Tensor::from<int64_t>({0}, {})},
                                  {"features", Tensor::from<float>({1, 2}, {2})},
                                  {"picture", Tensor::from<float>({3, 4}, {1, 2})},
                                  {"spans", ids({6})}}});
    CHECK(values(batch.at("labels")) == Rows{1, 0});
    CHECK(batch.at("features").to_vector<double>() == std::vector<double>{.5, .25, 1, 2});
    CHECK(batch.at("picture").shape() == Shape{2, 1, 2});
    CHECK(batch.at("spans").shape() == Shape{2, 8});
    CHECK(batch.at("input_ids").shape() == Shape{2, 4});
    // Without input_ids there is nothing for a mask to tell.
    CHECK_FALSE(collate({{{"spans", ids({1})}}}).contains("attention_mask"));
    CHECK(contains(message_of([&] {
                     collate({{{"x", Tensor::empty({2, 2})}}, {{"x", Tensor::empty({3, 2})}}});
                   }),
                   "(3, 2)"));
  }

  TEST_CASE("a dtype that cannot say the padding is an error") {
    const Tensor two = Tensor::from<uint8_t>({1, 2}, {2}), one = Tensor::from<uint8_t>({1}, {1});
    const auto message = message_of([&] {
      DataCollatorWithPadding{}({{{"labels", two}}, {{"labels", one}}});
    });
    CHECK(contains(message, "u8 cannot hold the padding -100"));
    const DataCollatorWithPadding fits{.pad_token_id = 255}, too_large{.pad_token_id = 256};
    CHECK(values(fits({{{"input_ids", two}}, {{"input_ids", one}}}).at("input_ids")) ==
          Rows{1, 2, 1, 255});
    CHECK(contains(message_of([&] {
                     too_large({{{"input_ids", two}}, {{"input_ids", one}}});
                   }),
                   "256"));
  }

  TEST_CASE("labels of a causal language model are its tokens, but for the padding") {
    const DataCollatorForLanguageModeling collate{.pad_token_id = 2};
    const Batch batch = collate({{{"input_ids", ids({1, 2, 3})}}, {{"input_ids", ids({2})}}});
    CHECK(values(batch.at("input_ids")) == Rows{1, 2, 3, 2, 2, 2});
    // A token that happens to be the padding's is a target like any other.
    CHECK(values(batch.at("labels")) == Rows{1, 2, 3, 2, -100, -100});
    CHECK(values(batch.at("attention_mask")) == Rows{1, 1, 1, 1, 0, 0});
  }

  TEST_CASE("labels that an example brings are kept") {
    const DataCollatorForLanguageModeling collate;
    const Batch mixed = collate({{{"input_ids", ids({1, 2, 3})}, {"labels", ids({-100, 2, 3})}},
                                 {{"input_ids", ids({4, 5})}}});
    CHECK(values(mixed.at("labels")) == Rows{-100, 2, 3, 4, 5, -100});
    const Batch ahead = collate({{{"input_ids", ids({1, 2})}, {"shift_labels", ids({2, 3})}}});
    CHECK_FALSE(ahead.contains("labels"));
    CHECK(values(ahead.at("shift_labels")) == Rows{2, 3});
    const Batch narrow = collate({{{"input_ids", Tensor::from<uint8_t>({1, 2}, {2})}},
                                  {{"input_ids", Tensor::from<uint8_t>({3}, {1})}}});
    CHECK(narrow.at("labels").dtype() == i64);
    CHECK(values(narrow.at("labels")) == Rows{1, 2, 3, -100});
    CHECK(contains(message_of([&] { collate({{{"x", ids({1})}}}); }), "no input_ids"));
  }
}
