// The datasets that come with the library.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/trainer/data/in_memory_dataset.h>
#include <tendril/trainer/data/jsonl_dataset.h>
#include <tendril/trainer/data/mapped_dataset.h>
#include <tendril/trainer/data/text_dataset.h>
#include <tendril/trainer/data/token_file_dataset.h>

#include "../file_tools.h"
#include "../test_tools.h"
#include "loader_tools.h"

using namespace tendril;
using namespace tendril::testing;
using namespace std::string_literals;

namespace {

using Ids = std::vector<int64_t>;
Ids inputs(const Example& example) { return example.at("input_ids").to_vector<int64_t>(); }
Ids targets(const Example& example) { return example.at("shift_labels").to_vector<int64_t>(); }
int64_t x_of(const Example& example) { return example.at("x").item<int64_t>(); }

// A file in a folder of its own.
struct TestFile {
  TemporaryFolder folder{memory_folder()};
  std::string path = folder.file("data");
  explicit TestFile(const std::string& bytes) { write_bytes(path, bytes); }
};

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TEST_SUITE("datasets") {
  TEST_CASE("examples in memory") {
    const InMemoryDataset dataset({numbered(3), numbered(5)});
    CHECK(dataset.size() == 2);
    CHECK(x_of(dataset.get(1)) == 5);
    CHECK(contains(message_of([&] { dataset.get(2); }), "no example 2; the dataset has 2"));
    CHECK(contains(message_of([&] { dataset.get(-1); }), "no example -1"));
  }

  TEST_CASE("columns in memory: rows are views") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2});
    const ColumnDataset dataset({{"x", x}, {"labels", Tensor::from<int64_t>({7, 8, 9}, {3})}});
    CHECK(dataset.size() == 3);
    const Example row = dataset.get(1);
    CHECK(row.at("x").shape() == Shape{2});
    CHECK(numbers(row.at("x")) == std::vector<double>{3, 4});
    CHECK(row.at("x").storage() == x.storage());
    CHECK(row.at("labels").shape() == Shape{});
    CHECK(row.at("labels").item<int64_t>() == 8);
    CHECK(numbers(ColumnDataset({{"x", transpose(x)}}).get(1).at("x")) ==
          std::vector<double>{2, 4, 6});
    CHECK(contains(message_of([&] { dataset.get(3); }), "no example 3"));
    CHECK(contains(message_of([] { ColumnDataset({}); }), "at least one column"));
    CHECK(contains(message_of([&] {
                     ColumnDataset({{"x", x}, {"y", Tensor::empty({2})}});
                   }),
                   "column \"y\" has shape (2,), column \"x\" has (3, 2)"));
    CHECK(contains(message_of([] { ColumnDataset({{"x", Tensor::empty({})}}); }), "(N, ...)"));
  }

  TEST_CASE("bytes of a text: windows, and the bytes that follow") {
    const auto text = TextDataset::bytes("abcdefgh", 3);
    CHECK(text->size() == 2);  // "abc" + d, "def" + g; "gh" is too short
    CHECK(inputs(text->get(0)) == Ids{97, 98, 99});
    CHECK(targets(text->get(0)) == Ids{98, 99, 100});
    CHECK(inputs(text->get(1)) == Ids{100, 101, 102});
    CHECK(targets(text->get(1)) == Ids{101, 102, 103});
    CHECK(text->get(0).at("input_ids").dtype() == i64);
    CHECK(inputs(TextDataset::bytes("\xff\x00"s, 1)->get(0)) == Ids{255});
    const auto dense = TextDataset::bytes("abcdefgh", 3, 1);
    CHECK(dense->size() == 5);
    CHECK(inputs(dense->get(4)) == Ids{101, 102, 103});
    CHECK(targets(dense->get(4)) == Ids{102, 103, 104});
    CHECK(TextDataset::bytes("abcd", 3)->size() == 1);
    CHECK(contains(message_of([] { TextDataset::bytes("abc", 3); }), "needs T + 1"));
    CHECK(contains(message_of([] { TextDataset::bytes("", 3); }), "has 0 tokens"));
    CHECK(contains(message_of([] { TextDataset::bytes("abc", 0); }), "T at least 1"));
    CHECK(contains(message_of([] { TextDataset::bytes("abc", 1, -1); }), "stride"));
    CHECK(contains(message_of([&] { dense->get(5); }), "no example 5"));
  }

  TEST_CASE("a text is split without overlap") {
    const auto split = TextDataset::bytes("abcdefghij", 2, 1)->split(0.3);
    CHECK(split.train->size() == 5);  // a-g
    CHECK(targets(split.train->get(4)) == Ids{102, 103});
    CHECK(split.eval->size() == 1);  // h-j
    CHECK(inputs(split.eval->get(0)) == Ids{104, 105});
    CHECK(targets(split.eval->get(0)) == Ids{105, 106});
    const auto text = TextDataset::bytes("abcdefghij", 2);
    CHECK(contains(message_of([&] { text->split(0.1); }), "from token 9 to 10 has 1 tokens"));
    CHECK(contains(message_of([&] { text->split(0); }), "eval_fraction"));
    CHECK(contains(message_of([&] { text->split(1); }), "eval_fraction"));
  }

  TEST_CASE("tokens of any size keep their value") {
    const Ids tokens{0, 300, (int64_t{1} << 31) - 1, 7};
    const auto dataset = TextDataset::tokens(tokens, 3);
    CHECK(inputs(dataset->get(0)) == Ids(tokens.begin(), tokens.end() - 1));
    CHECK(targets(dataset->get(0)) == Ids(tokens.begin() + 1, tokens.end()));
    CHECK(contains(message_of([] { TextDataset::tokens(Ids{1, -1}, 1); }), "token 1 is -1"));
    CHECK(contains(message_of([] { TextDataset::tokens(Ids{int64_t{1} << 31, 1}, 1); }), "2^31"));
  }

  TEST_CASE("a vocabulary of characters") {
    const std::string text = "h\xC3\xA9llo \xE2\x82\xAC\xF0\x9F\x99\x82!";  // hello, euro, a smile
    const CharVocabulary vocabulary = CharVocabulary::from_text(text);
    CHECK(vocabulary.size() == 8);
    CHECK(vocabulary.encode("ho!") == Ids{2, 4, 1});  // space, !, h, l, o, ...
    const Ids ids = vocabulary.encode(text);
    CHECK(ids == Ids{2, 5, 3, 3, 4, 0, 6, 7, 1});
    CHECK(vocabulary.decode(ids) == text);
    CHECK(vocabulary.encode("").empty());
    CHECK(contains(message_of([&] { vocabulary.encode("hex"); }), "\"e\" at byte 1"));
    CHECK(contains(message_of([&] { vocabulary.encode("\xC3"); }), "UTF-8"));
    CHECK(contains(message_of([&] { vocabulary.decode(Ids{8}); }), "no character 8"));
    CHECK(contains(message_of([&] { vocabulary.decode(Ids{-1}); }), "no character -1"));
    const auto dataset = TextDataset::characters(text, vocabulary, 4);
    CHECK(inputs(dataset->get(1)) == Ids{4, 0, 6, 7});
    CHECK(targets(dataset->get(1)) == Ids{0, 6, 7, 1});
  }

  TEST_CASE("a vocabulary survives its file; a damaged file is refused") {
    const TestFile file("");
    const CharVocabulary vocabulary = CharVocabulary::from_text("\n\"\\ a\xC3\xA9\xF0\x9F\x99\x82");
    vocabulary.save(file.path);
    CHECK(CharVocabulary::load(file.path) == vocabulary);
    const auto refused = [&](const std::string& bytes) {
      write_bytes(file.path, bytes);
      const std::string message = message_of([&] { CharVocabulary::load(file.path); });
      return contains(message, "[CharVocabulary] cannot load " + file.path) ? message : "";
    };
    CHECK(contains(refused(""), "ends"));
    CHECK(contains(refused(R"({"type": "characters"})"), "\"characters\""));
    CHECK(contains(refused(R"({"type": "words", "characters": []})"), "words"));
    CHECK(contains(refused(R"({"type": "characters", "characters": ["ab"]})"), "one character"));
    CHECK(contains(refused(R"({"type": "characters", "characters": [""]})"), "one character"));
    CHECK(contains(refused(R"({"type": "characters", "characters": ["b", "a"]})"), "rise"));
    CHECK(contains(refused(R"({"type": "characters", "characters": ["a", "a"]})"), "rise"));
    CHECK(contains(refused(R"({"type": "characters", "characters": [1]})"), "string"));
    CHECK(contains(message_of([] { CharVocabulary::load("/nowhere/at/all"); }), "cannot open"));
  }

  TEST_CASE("a file of 16-bit tokens") {
    const TestFile file(raw<uint16_t>({5, 6, 65535, 8, 9, 10}));
    const TokenFileDataset dataset(file.path, 2);
    CHECK(dataset.token_count() == 6);
    CHECK(dataset.size() == 2);
    CHECK(inputs(dataset.get(0)) == Ids{5, 6});
    CHECK(targets(dataset.get(0)) == Ids{6, 65535});
    CHECK(inputs(dataset.get(1)) == Ids{65535, 8});
    CHECK(TokenFileDataset(file.path, 2, {.stride = 1}).size() == 4);
    // What is not in the vocabulary is found when it is read.
    const TokenFileDataset bound(file.path, 2, {.stride = 3, .vocab_size = 10});
    const auto message = message_of([&] { bound.get(0); });
    for (const std::string& part : {file.path, "token 2 is 65535"s, "below 10"s})
      CHECK(contains(message, part));
    CHECK(contains(message_of([&] { bound.get(1); }), "token 5 is 10"));
    CHECK(contains(message_of([&] { TokenFileDataset(file.path, 6); }), "has 6 tokens"));
    CHECK(contains(message_of([&] { TokenFileDataset(file.path, 2, {.vocab_size = -1}); }),
                   "vocab_size"));
  }

  TEST_CASE("a file of 32-bit tokens, signed or not") {
    const TestFile file(raw<int32_t>({1, 100'000, 3, -1}));
    const TokenFileDataset dataset(file.path, 1, {.width = TokenWidth::u32, .stride = 1});
    CHECK(dataset.size() == 3);
    CHECK(inputs(dataset.get(1)) == Ids{100'000});
    CHECK(contains(message_of([&] { dataset.get(2); }), "token 3 is 4294967295"));
  }

  TEST_CASE("a file that is no whole number of tokens is refused") {
    CHECK(contains(message_of([] { TokenFileDataset(TestFile("abc").path, 1); }), "3 bytes"));
    CHECK(contains(message_of([] {
                     TokenFileDataset(TestFile("abcdef").path, 1, {.width = TokenWidth::u32});
                   }),
                   "4-byte tokens"));
    CHECK(contains(message_of([] { TokenFileDataset(TestFile("").path, 1); }), "has 0 tokens"));
    CHECK(contains(message_of([] { TokenFileDataset("/nowhere/at/all", 1); }), "cannot open"));
  }

  TEST_CASE("JSON lines: numbers and arrays of numbers") {
    const TestFile file(
        "{\"a\": [1, 2], \"b\": 3, \"c\": -0.5}\n"
        "\n  \t\n"
        "{\"a\": [[1, 2.5], [3, 4e0]], \"b\": [], \"c\": [[], []]}\r\n"
        "{\"a\": 9007199254740993}");
    const JsonlDataset dataset(file.path);
    REQUIRE(dataset.size() == 3);
    const Example first = dataset.get(0);
    REQUIRE(first.size() == 3);
    CHECK(first.at("a").dtype() == i64);
    CHECK(first.at("a").to_vector<int64_t>() == Ids{1, 2});
    CHECK(first.at("b").shape() == Shape{});
    CHECK(first.at("b").item<int64_t>() == 3);
    CHECK(first.at("c").dtype() == f32);
    CHECK(first.at("c").item<float>() == -0.5f);
    const Example second = dataset.get(1);
    CHECK(second.at("a").shape() == Shape{2, 2});
    CHECK(numbers(second.at("a")) == std::vector<double>{1, 2.5, 3, 4});
    CHECK(second.at("b").shape() == Shape{0});
    CHECK(second.at("c").shape() == Shape{2, 0});
    CHECK(dataset.get(2).at("a").item<int64_t>() == 9007199254740993);
    CHECK(contains(message_of([&] { dataset.get(3); }), "no example 3"));
  }

  TEST_CASE("JSON lines: what cannot be a tensor is an error with file and line") {
    const auto message = [](const std::string& line) {
      const TestFile file("{\"a\": 1}\n\n" + line + "\n");
      const JsonlDataset dataset(file.path);
      REQUIRE(dataset.size() == 2);
      CHECK(dataset.get(0).size() == 1);
      const std::string text = message_of([&] { dataset.get(1); });
      return contains(text, file.path + ", line 3: ") ? text : "";
    };
    CHECK(contains(message(R"({"a": "text"})"), "only numbers"));
    CHECK(contains(message(R"({"a": "text"})"), "\"a\""));
    CHECK(contains(message(R"({"a": true})"), "only numbers"));
    CHECK(contains(message(R"({"a": null})"), "only numbers"));
    CHECK(contains(message(R"({"a": {"b": 1}})"), "only numbers"));
    CHECK(contains(message(R"({"a": [[1, 2], [3]]})"), "unequal length"));
    CHECK(contains(message(R"({"a": [[], [3]]})"), "unequal length"));
    CHECK(contains(message(R"({"a": [[1], 3]})"), "unequal length"));
    CHECK(contains(message(R"({"a": [1, [3]]})"), "nested unequally"));
    CHECK(contains(message(R"({"a": [[[[[[[[[1]]]]]]]]]})"), "nested 8 deep"));
    CHECK(contains(message(R"({"a": 99999999999999999999})"), "64 bits"));
    CHECK(contains(message(R"({"a": [0.5, 99999999999999999999]})"), "64 bits"));
    CHECK(contains(message(R"({"a": 1e39})"), "f32"));
    CHECK(contains(message(R"({"a": 1e999})"), "does not fit"));
    CHECK(contains(message(R"([1])"), "must be a JSON object"));
    CHECK(contains(message(R"({"a": 1)"), "[json]"));
    CHECK(contains(message("{\"a\xff\": 1}"), "UTF-8"));
  }

  TEST_CASE("JSON lines through a function of one's own") {
    const TestFile file("{\"text\": \"ab\"}\n{\"text\": 1}\n");
    const JsonlDataset dataset(file.path, [](const Json& object) -> Example {
      return numbered(static_cast<int64_t>(object.at("text").as_string().size()));
    });
    CHECK(x_of(dataset.get(0)) == 2);
    CHECK(contains(message_of([&] { dataset.get(1); }), ", line 2: [json]"));
    CHECK(contains(message_of([&] { JsonlDataset(file.path, nullptr); }), "empty"));
  }

  TEST_CASE("lines of text through a tokenizer") {
    const TestFile file("ab\r\n\nc\n");
    const TextLinesDataset dataset(file.path, [](std::string_view line) {
      TENDRIL_CHECK(line != "c", "unknown letter");
      return Ids(line.begin(), line.end());
    });
    CHECK(dataset.size() == 2);
    CHECK(inputs(dataset.get(0)) == Ids{97, 98});
    CHECK(contains(message_of([&] { dataset.get(1); }), file.path + ", line 3: unknown letter"));
  }

  TEST_CASE("JSON lines of several files, one after the other") {
    const TestFile one("{\"x\": 0}\n{\"x\": 1}\n"), none("\n"), two("{\"x\": 2}\n\n{\"x\": ]\n");
    const JsonlStreamDataset dataset({one.path, none.path, two.path});
    const auto stream = dataset.iterate(4);
    for (int64_t i = 0; i < 3; ++i) CHECK(x_of(*stream->next()) == i);
    CHECK(contains(message_of([&] { stream->next(); }), two.path + ", line 3: [json]"));
    CHECK_FALSE(stream->next());
    const auto skipping = dataset.iterate(0);
    CHECK(skipping->skip(2) == 2);
    CHECK(x_of(*skipping->next()) == 2);
    CHECK(skipping->skip(5) == 1);  // without parsing it
    CHECK_FALSE(skipping->next());
    CHECK_FALSE(JsonlStreamDataset({}).iterate(0)->next());
    const auto missing = JsonlStreamDataset({"/nowhere/at/all"}).iterate(0);
    CHECK(contains(message_of([&] { missing->next(); }), "cannot open"));
    const DataLoader loader(std::make_shared<JsonlStreamDataset>(std::vector{one.path}),
                            {.batch_size = 2, .num_workers = 1});
    CHECK(read_all(loader) == Batches{{0, 1}});
  }

  TEST_CASE("datasets made of others") {
    const auto five = std::make_shared<WatchedDataset>(5);
    const MappedDataset mapped(five, [](Example example) { return numbered(10 * x_of(example)); });
    CHECK(mapped.size() == 5);
    CHECK(x_of(mapped.get(3)) == 30);
    const auto subset = std::make_shared<SubsetDataset>(five, Ids{4, 0, 4});
    CHECK(subset->size() == 3);
    CHECK(x_of(subset->get(2)) == 4);
    const ConcatDataset joined({subset, std::make_shared<WatchedDataset>(0), five});
    CHECK(joined.size() == 8);
    Ids all;
    for (int64_t i = 0; i < 8; ++i) all.push_back(x_of(joined.get(i)));
    CHECK(all == Ids{4, 0, 4, 0, 1, 2, 3, 4});
    CHECK(ConcatDataset({}).size() == 0);
    CHECK(contains(message_of([&] { joined.get(8); }), "no example 8"));
    CHECK(contains(message_of([&] { subset->get(3); }), "no example 3"));
    CHECK(contains(message_of([&] { SubsetDataset(five, {5}); }), "no example 5"));
    const auto stream = std::make_shared<WatchedStreams>(3);
    CHECK(contains(message_of([&] { ConcatDataset({five, stream}); }), "iterable"));
    CHECK(contains(message_of([&] { MappedDataset(stream, [](Example e) { return e; }); }),
                   "iterable"));
    CHECK(contains(message_of([&] { MappedDataset(five, nullptr); }), "empty"));
    CHECK(contains(message_of([&] { SubsetDataset(nullptr, {}); }), "null"));
  }
}
