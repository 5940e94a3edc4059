// Damaged data files: each example either loads or throws tendril::Error. Run it with
// AddressSanitizer.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include <tendril/trainer/data/char_vocabulary.h>
#include <tendril/trainer/data/jsonl_dataset.h>
#include <tendril/trainer/data/token_file_dataset.h>

#include "../file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr int kMutations = 1500;

struct Outcome {
  int loaded = 0, refused = 0;
};

// Anything but an Error escapes and fails the test.
template <class Body>
void attempt(Outcome& outcome, const Body& body) {
  try {
    body();
    ++outcome.loaded;
  } catch (const Error&) {
    ++outcome.refused;
  }
}

// Bytes changed, taken out, put in, cut off.
std::string damaged(std::string bytes, std::mt19937& random) {
  const auto below = [&](size_t bound) { return bound ? random() % bound : 0; };
  static constexpr char kLikely[] = "\n\r\"[]{},:0-.e9 \\\xff\xc3\xed\x00";
  for (size_t changes = 1 + below(3); changes > 0; --changes) {
    const size_t place = below(bytes.size() + 1);
    const char byte = below(2) ? kLikely[below(sizeof kLikely)] : static_cast<char>(random());
    switch (below(4)) {
      case 0:
        if (place < bytes.size()) bytes[place] = byte;
        break;
      case 1:
        bytes.insert(place, 1, byte);
        break;
      case 2:
        bytes.erase(place, below(6));
        break;
      default:
        if (below(4) == 0) bytes.resize(place);
    }
  }
  return bytes;
}

void read_lines(const std::string& path, Outcome& outcome) {
  const JsonlDataset dataset(path);
  for (int64_t i = 0; i < *dataset.size(); ++i) attempt(outcome, [&] { dataset.get(i); });
  // The stream finds the same lines.
  const auto stream = JsonlStreamDataset({path}).iterate(0);
  CHECK(stream->skip(1'000'000) == *dataset.size());
}

void read_tokens(const std::string& path, Outcome& outcome) {
  for (const TokenWidth width : {TokenWidth::u8, TokenWidth::u16, TokenWidth::u32})
    attempt(outcome, [&] {
      const TokenFileDataset dataset(path, 3, {.width = width, .stride = 2, .vocab_size = 1 << 15});
      for (int64_t i = 0; i < *dataset.size(); ++i) attempt(outcome, [&] { dataset.get(i); });
    });
}

template <class Read>
Outcome fuzz(const std::string& valid, const Read& read) {
  const TemporaryFolder folder(memory_folder());
  const std::string path = folder.file("x");
  std::mt19937 random(1);
  Outcome outcome;
  const auto run = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    attempt(outcome, [&] { read(path, outcome); });
  };
  for (size_t length = 0; length <= valid.size(); ++length) run(valid.substr(0, length));
  for (int i = 0; i < kMutations; ++i) run(damaged(valid, random));
  for (int i = 0; i < 200; ++i) {  // no sense at all
    std::string bytes(random() % 64, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    run(bytes);
  }
  return outcome;
}

}  // namespace

TEST_SUITE("datasets_fuzz") {
  TEST_CASE("JSON lines") {
    const Outcome outcome = fuzz(
        "{\"a\": [[1, 2], [3, 4]], \"b\": 1e38}\r\n\n{\"a\": [], \"\\u00e9\": -0}\n{\"a\": 0.125}",
        read_lines);
    CHECK(outcome.loaded > 1000);  // both sides are met
    CHECK(outcome.refused > 1000);
  }

  TEST_CASE("token files") {
    std::string bytes;
    for (int i = 0; i < 40; ++i) bytes += {static_cast<char>(i), 0};
    const Outcome outcome = fuzz(bytes, read_tokens);
    CHECK(outcome.loaded > 1000);
    CHECK(outcome.refused > 1000);
  }

  TEST_CASE("vocabularies") {
    const Outcome outcome =
        fuzz("{\"type\": \"characters\", \"characters\": [\"\\n\", \"a\", \"\xC3\xA9\"]}",
             [](const std::string& path, Outcome&) {
               const CharVocabulary vocabulary = CharVocabulary::load(path);
               std::vector<int64_t> all;
               for (int64_t id = 0; id < vocabulary.size(); ++id) all.push_back(id);
               CHECK(vocabulary.encode(vocabulary.decode(all)) == all);
             });
    CHECK(outcome.loaded > 20);
    CHECK(outcome.refused > 1000);
  }
}
