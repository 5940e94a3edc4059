// Sharded checkpoints: what is written by any number of ranks is read by any other, row by row.
#include <doctest/doctest.h>

#include <set>

#include <tendril/autograd/functions.h>
#include <tendril/core/safetensors.h>

#include "sharded_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path checkpoint = folder.path() / "out" / "checkpoint";
  std::string file(const std::string& name) const { return (checkpoint / name).string(); }
};

// The names of the shards of this process's mappings.
std::set<std::string> mapped_shards(const fs::path& folder) {
  std::set<std::string> result;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t at = line.find(folder.string());
    if (at != std::string::npos) result.insert(fs::path(line.substr(at)).filename().string());
  }
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("sharded_checkpoint");

TEST_CASE_FIXTURE(Fixture, "N ranks write, M ranks with other cuts read the same bits") {
  const StateDict whole = sample_tensors();
  for (const int writers : {1, 2, 3, 4}) {
    const fs::path written = checkpoint / std::to_string(writers);
    save_cut(written, whole, writers, false, {{"step", "7"}});
    for (const int readers : {1, 2, 3, 5})
      for (int rank = 0; rank < readers; ++rank) {
        CAPTURE(writers);
        CAPTURE(readers);
        CAPTURE(rank);
        const auto opened = ShardedCheckpoint::open(written, true);
        CHECK(opened.metadata() == std::map<std::string, std::string>{{"step", "7"}});
        int64_t wanted = 0;
        for (const ShardedTensor& part : cut(whole, rank, readers, true)) {
          const Tensor target = Tensor::empty(part.local.shape(), part.local.dtype());
          opened.read_into({part.name, target, part.whole_shape, part.row_begin});
          CHECK_MESSAGE(same_bits(target, part.local), part.name);
          wanted += part.local.nbytes();
        }
        CHECK(opened.bytes_read() == wanted);  // and not a byte more
        CHECK(holds(opened, whole));
      }
  }
}

TEST_CASE_FIXTURE(Fixture, "the files, byte for byte") {
  run_ranks(2, [&](const std::shared_ptr<ProcessGroup>& group) {
    const Tensor local = Tensor::from<float>({1.0f + static_cast<float>(group->rank())}, {1});
    const Tensor step = Tensor::from<int64_t>({5}, {});
    save_sharded(*group, checkpoint, {{"a", local, {2}, group->rank()}, {"t", step, {}, 0}},
                 {{"k", "v"}});
  });
  CHECK(names_in(checkpoint) == Names{"manifest.json", "shard-00000-of-00002.safetensors",
                                      "shard-00001-of-00002.safetensors"});
  // "t" is written once, by the first rank that has it.
  const auto first = load_safetensors(file("shard-00000-of-00002.safetensors"));
  CHECK(first.size() == 2);
  CHECK(first.at("a").to_vector<float>() == std::vector<float>{1});
  CHECK(first.at("t").item<int64_t>() == 5);
  const auto second = load_safetensors(file("shard-00001-of-00002.safetensors"));
  CHECK(second.size() == 1);
  CHECK(second.at("a").to_vector<float>() == std::vector<float>{2});
  // Checksums from a bit-by-bit computation elsewhere.
  CHECK(read_bytes(file("manifest.json")) == R"({
  "format": "tendril sharded checkpoint",
  "version": 1,
  "metadata": {
    "k": "v"
  },
  "files": {
    "shard-00000-of-00002.safetensors": {"bytes": 164, "crc32c": "7c5073bc"},
    "shard-00001-of-00002.safetensors": {"bytes": 100, "crc32c": "ac8aa562"}
  },
  "tensors": {
    "a": {"dtype": "F32", "shape": [2], "pieces": [{"rows": [0, 1], "file": "shard-00000-of-00002.safetensors"}, {"rows": [1, 2], "file": "shard-00001-of-00002.safetensors"}]},
    "t": {"dtype": "I64", "shape": [], "pieces": [{"rows": [0, 1], "file": "shard-00000-of-00002.safetensors"}]}
  },
  "crc32c": "71a50c76"
}
)");
}

TEST_CASE_FIXTURE(Fixture, "what the manifest says of a tensor") {
  save_cut(checkpoint, sample_tensors(), 3);
  const auto opened = ShardedCheckpoint::open(checkpoint);
  const auto rows_of_tensor = [&](const std::string& name) {
    std::vector<std::pair<int64_t, int64_t>> result;
    for (const auto& rows : opened.tensors().at(name).rows)
      result.emplace_back(rows.begin, rows.end);
    return result;
  };
  using Rows = std::vector<std::pair<int64_t, int64_t>>;
  CHECK(rows_of_tensor("model.weight") == Rows{{0, 2}, {2, 4}, {4, 7}});
  CHECK(rows_of_tensor("model.other half") == Rows{{0, 1}, {1, 2}});  // a rank has none
  CHECK(rows_of_tensor("optimizer.step") == Rows{{0, 1}});
  CHECK(rows_of_tensor("no rows") == Rows{});
  CHECK(rows_of_tensor("empty rows") == Rows{{0, 1}, {1, 2}, {2, 3}});
  CHECK(opened.tensors().at("model.half").dtype == bf16);
  CHECK(opened.tensors().at("model.half").shape == Shape{5, 2, 2});
  CHECK(opened.contains("ids"));
  CHECK_FALSE(opened.contains("id"));
}

TEST_CASE_FIXTURE(Fixture, "replicas are written once; a rank with nothing of its own, no file") {
  const StateDict whole = sample_tensors();
  // Two copies of what two ranks have: ranks 0 and 2, 1 and 3.
  run_ranks(4, [&](const std::shared_ptr<ProcessGroup>& group) {
    save_sharded(*group, checkpoint, cut(whole, group->rank() % 2, 2));
  });
  CHECK(names_in(checkpoint) == Names{"manifest.json", "shard-00000-of-00004.safetensors",
                                      "shard-00001-of-00004.safetensors"});
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), whole));
}

TEST_CASE_FIXTURE(Fixture, "whole tensors of one rank each, in any order, and nothing at all") {
  const StateDict whole = sample_tensors();
  run_ranks(3, [&](const std::shared_ptr<ProcessGroup>& group) {
    std::vector<ShardedTensor> mine;
    int owner = 0;
    for (const auto& [name, tensor] : whole)
      if (owner++ % 3 == group->rank()) mine.insert(mine.begin(), {name, tensor, tensor.shape()});
    save_sharded(*group, checkpoint, mine);
  });
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), whole));
  run_ranks(
      2, [&](const std::shared_ptr<ProcessGroup>& group) { save_sharded(*group, checkpoint, {}); });
  CHECK(ShardedCheckpoint::open(checkpoint).tensors().empty());
  CHECK(names_in(checkpoint) == Names{"manifest.json"});
}

TEST_CASE_FIXTURE(Fixture, "strided rows are written row-major, and read into strided memory") {
  const Tensor numbers = numbered({3, 4}, f32);
  const Tensor turned = transpose(numbers, 0, 1);  // (4, 3), not contiguous
  save_sharded(*single_process_group(), checkpoint, {{"x", turned, {4, 3}}});
  const auto opened = ShardedCheckpoint::open(checkpoint);
  CHECK(opened.read("x").to_vector<float>() ==
        std::vector<float>{1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12});
  const Tensor target = numbered({3, 2}, f32, 100);
  opened.read_into({"x", transpose(target, 0, 1), {4, 3}, 1});
  CHECK(target.to_vector<float>() == std::vector<float>{2, 3, 6, 7, 10, 11});
}

TEST_CASE_FIXTURE(Fixture, "only files with wanted rows are mapped, only wanted rows copied") {
  const StateDict whole = {{"x", numbered({8, 16}, f32)}, {"y", numbered({4}, f64)}};
  save_cut(checkpoint, whole, 4);
  const auto opened = ShardedCheckpoint::open(checkpoint);
  CHECK(mapped_shards(checkpoint).empty());
  CHECK(opened.bytes_read() == 0);
  CHECK(same_bits(opened.read("x", 3, 5), rows_of(whole.at("x"), 3, 5)));
  CHECK(opened.bytes_read() == 2 * 16 * 4);
  CHECK(mapped_shards(checkpoint) == std::set<std::string>{"shard-00001-of-00004.safetensors",
                                                           "shard-00002-of-00004.safetensors"});
  CHECK(opened.read("x", 5, 5).shape() == Shape{0, 16});
  CHECK(opened.bytes_read() == 2 * 16 * 4);
  CHECK(opened.read("y", 3).to_vector<double>() == std::vector<double>{4});
  CHECK(opened.bytes_read() == 2 * 16 * 4 + 8);
  // A file that nobody needs may go.
  fs::remove(file("shard-00000-of-00004.safetensors"));
  CHECK(same_bits(opened.read("x", 2, 8), rows_of(whole.at("x"), 2, 8)));
  CHECK(contains_text(error_of([&] { opened.read("x"); }), "shard-00000-of-00004.safetensors"));
}

TEST_CASE_FIXTURE(Fixture, "reading what is not there") {
  save_cut(checkpoint, sample_tensors(), 2);
  const auto opened = ShardedCheckpoint::open(checkpoint);
  const auto read_error = [&](const std::string& name, int64_t begin, std::optional<int64_t> end) {
    return error_of([&] { opened.read(name, begin, end); });
  };
  CHECK(contains_text(read_error("model.wight", 0, {}), "has no tensor model.wight"));
  CHECK(contains_text(read_error("model.weight", 0, 8), "has no rows [0, 8)"));
  CHECK(contains_text(read_error("model.weight", -1, 2), "has no rows [-1, 2)"));
  CHECK(contains_text(read_error("model.weight", 3, 2), "has no rows [3, 2)"));
  CHECK(contains_text(read_error("model.weight", 9, {}), "has no rows [9, 7)"));
  CHECK(contains_text(read_error("optimizer.step", 1, {}), "has no axes"));
  CHECK(contains_text(read_error("optimizer.step", 0, 0), "has no axes"));

  const auto into_error = [&](const Tensor& local, const Shape& whole, int64_t begin) {
    return error_of([&] { opened.read_into({"model.weight", local, whole, begin}); });
  };
  CHECK(into_error(zeros({2, 3}), {7, 3}, 5) == "");
  CHECK(contains_text(into_error(zeros({2, 3}), {7, 3}, 6), "has no rows of shape (2, 3)"));
  CHECK(contains_text(into_error(zeros({2, 3}), {7, 3}, -1), "that begin at -1"));
  CHECK(contains_text(into_error(zeros({2, 4}), {7, 3}, 0), "has no rows of shape (2, 4)"));
  CHECK(contains_text(into_error(zeros({2}), {7, 3}, 0), "has no rows of shape (2,)"));
  CHECK(contains_text(into_error(zeros({}), {7, 3}, 0), "has no rows of shape ()"));
  CHECK(contains_text(into_error(zeros({2, 3}), {8, 3}, 0), "is stored as f32 (7, 3)"));
  CHECK(contains_text(into_error(zeros({2, 3}, bf16), {7, 3}, 0), "wanted is bf16"));
  CHECK(contains_text(into_error({}, {7, 3}, 0), "is undefined"));
}

TEST_CASE_FIXTURE(Fixture, "read_into() counts as a change in place") {
  save_cut(checkpoint, {{"x", numbered({2}, f32)}}, 1);
  Tensor x = zeros({2}).requires_grad_();
  const Tensor y = sum(mul(x, x));
  ShardedCheckpoint::open(checkpoint).read_into({"x", x, {2}});
  CHECK(x.to_vector<float>() == std::vector<float>{1, 2});
  CHECK_THROWS_AS(y.backward(), Error);  // x is no longer what the tape saved
}

TEST_CASE_FIXTURE(Fixture, "damage is found: files missing, cut, longer, changed") {
  const StateDict whole = sample_tensors();
  save_cut(checkpoint, whole, 2);
  const std::string shard = file("shard-00001-of-00002.safetensors");
  const std::string bytes = read_bytes(shard), manifest = read_bytes(file("manifest.json"));
  const auto error = [&](bool verify) {
    return error_of([&] { ShardedCheckpoint::open(checkpoint, verify); });
  };
  write_bytes(shard, bytes.substr(0, bytes.size() - 1));
  CHECK(contains_text(error(false), shard));
  CHECK(contains_text(error(false), "bytes; the manifest says"));
  write_bytes(shard, bytes + "x");
  CHECK(contains_text(error(false), "bytes; the manifest says"));
  std::string changed = bytes;
  changed.back() ^= 1;
  write_bytes(shard, changed);
  CHECK(error(false) == "");
  CHECK(contains_text(error(true), shard + " is damaged"));
  fs::remove(shard);
  CHECK(contains_text(error(false), shard + " is missing"));
  fs::create_directory(shard);
  CHECK(contains_text(error(false), shard + " is not a regular file"));
  fs::remove(shard);
  write_bytes(shard, bytes);
  CHECK(holds(ShardedCheckpoint::open(checkpoint, true), whole));

  write_bytes(file("manifest.json"), manifest + " ");
  CHECK(contains_text(error(false), "manifest.json: it was changed"));
  fs::remove(file("manifest.json"));
  CHECK(contains_text(error(false), file("manifest.json")));
}

TEST_CASE_FIXTURE(Fixture, "bytes that are no bool are refused") {
  save_sharded(*single_process_group(), checkpoint, {{"m", numbered({9}, bool_), {9}}});
  const std::string shard = file("shard-00000-of-00001.safetensors");
  std::string bytes = read_bytes(shard);
  bytes.back() = 2;
  write_bytes(shard, bytes);
  const auto opened = ShardedCheckpoint::open(checkpoint);
  CHECK(same_bits(opened.read("m", 0, 8), rows_of(numbered({9}, bool_), 0, 8)));
  CHECK(contains_text(error_of([&] { opened.read("m"); }), "neither 0 nor 1"));
}

TEST_CASE_FIXTURE(Fixture, "many threads may read one open checkpoint") {
  const StateDict whole = sample_tensors();
  save_cut(checkpoint, whole, 4);
  const auto opened = ShardedCheckpoint::open(checkpoint);
  int64_t bytes = 0;
  for (const auto& entry : whole) bytes += entry.second.nbytes();
  std::vector<char> same(4);
  run_ranks(4, [&](const std::shared_ptr<ProcessGroup>& group) {
    same[static_cast<size_t>(group->rank())] = holds(opened, whole);
  });
  CHECK(same == std::vector<char>{1, 1, 1, 1});
  CHECK(opened.bytes_read() == 4 * bytes);
}

TEST_SUITE_END();
