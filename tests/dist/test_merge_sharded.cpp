// One safetensors file out of a sharded checkpoint.
#include <doctest/doctest.h>

#include <tendril/autograd/functions.h>
#include <tendril/core/safetensors.h>

#include "sharded_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path checkpoint = folder.path() / "checkpoint";
  std::string merged = folder.file("merged.safetensors");
  StateDict whole = sample_tensors();
  Fixture() { save_cut(checkpoint, whole, 3, true); }
  std::string error(std::optional<DType> dtype, const std::string& prefix) const {
    return error_of([&] { merge_sharded(checkpoint, merged, dtype, prefix); });
  }
};

}  // namespace

TEST_SUITE_BEGIN("merge_sharded");

TEST_CASE_FIXTURE(Fixture, "all tensors come back together") {
  merge_sharded(checkpoint, merged);
  const StateDict found = load_safetensors(merged);
  CHECK(found.size() == whole.size());
  for (const auto& entry : whole)
    CHECK_MESSAGE(same_bits(found.at(entry.first), entry.second), entry.first);
  // Hugging Face's loader wants to read this.
  CHECK(SafetensorsFile::open(merged).metadata().at("format") == "pt");
  // The same file that writing them in one go gives.
  save_safetensors(folder.file("direct.safetensors"), whole);
  CHECK(read_bytes(merged) == read_bytes(folder.file("direct.safetensors")));
}

TEST_CASE_FIXTURE(Fixture, "a prefix chooses names, and goes") {
  merge_sharded(checkpoint, merged, {}, "model.");
  const StateDict found = load_safetensors(merged);
  CHECK(found.size() == 3);
  for (const char* name : {"weight", "half", "other half"})
    CHECK_MESSAGE(same_bits(found.at(name), whole.at("model." + std::string(name))), name);
}

TEST_CASE_FIXTURE(Fixture, "floating-point tensors change their dtype, others do not") {
  merge_sharded(checkpoint, merged, bf16);
  const StateDict found = load_safetensors(merged);
  CHECK(found.size() == whole.size());
  for (const auto& entry : whole) {
    const std::string& name = entry.first;
    const Tensor& tensor = entry.second;
    CAPTURE(name);
    const Tensor& got = found.at(name);
    CHECK(got.dtype() == (is_floating(tensor.dtype()) ? bf16 : tensor.dtype()));
    CHECK(got.shape() == tensor.shape());
    // Whole numbers below 200: bf16 has them exactly.
    CHECK(got.to_vector<double>() == tensor.to_vector<double>());
  }
}

TEST_CASE_FIXTURE(Fixture, "errors leave no file") {
  CHECK(contains_text(error(i64, ""), "i64 is no floating-point dtype"));
  CHECK(contains_text(error({}, "modle."), "11 tensors, none of which begins with \"modle.\""));
  CHECK(contains_text(error({}, "ids"), "nothing remains of the name of tensor ids"));
  const std::string shard = (checkpoint / "shard-00002-of-00003.safetensors").string();
  std::string bytes = read_bytes(shard);
  write_bytes(shard, bytes.substr(1));
  CHECK(contains_text(error({}, ""), shard));
  // A header that does not fit the manifest, found in the middle of the work.
  const size_t at = bytes.find("model.weight");
  REQUIRE(at != std::string::npos);
  bytes[at] = 'M';
  write_bytes(shard, bytes);
  CHECK(contains_text(error({}, ""), "has no tensor model.weight"));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"checkpoint"});
}

TEST_SUITE_END();
