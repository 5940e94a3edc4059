// tendril-merge: one safetensors file out of a sharded checkpoint, for everything that reads such
// files. What `accelerate merge-weights CHECKPOINT FOLDER` does for FSDP's checkpoints, with the
// same two arguments.
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/dist/sharded_checkpoint.h>

namespace {

namespace fs = std::filesystem;
using tendril::DType;

constexpr const char* kHelp =
    R"(tendril-merge CHECKPOINT OUT [--dtype DTYPE] [--prefix PREFIX] [--no-verify]

Puts the tensors of a sharded checkpoint together into one safetensors file, a piece at a time in
memory.

  CHECKPOINT       a folder with manifest.json and shards, or a checkpoint of the Trainer, of which
                   the weights are taken
  OUT              a name that ends in .safetensors is the file; any other is a folder, made where
                   it is missing, that gets model.safetensors: as accelerate merge-weights does
  --dtype DTYPE    floating-point tensors become f32, bf16, f16 or f64; the others stay
  --prefix PREFIX  only tensors whose names begin so, without it: --prefix model. for the weights
                   of a checkpoint that has optimizer. as well
  --no-verify      do not read all shards first to compare their checksums

Ends with 0, with 1 for a checkpoint that cannot be merged, and with 2 for wrong arguments.
)";

struct Arguments {
  bool wants_help = false;
  std::vector<std::string> paths;
  std::optional<DType> dtype;
  std::string prefix;
  bool verify = true;
};

// What is wrong with the command line.
struct UsageError : tendril::Error {
  using Error::Error;
};

DType dtype_from(const std::string& name) {
  static const std::map<std::string, DType> kNames = {
      {"f32", tendril::f32},     {"float32", tendril::f32},   {"fp32", tendril::f32},
      {"bf16", tendril::bf16},   {"bfloat16", tendril::bf16}, {"f16", tendril::f16},
      {"float16", tendril::f16}, {"fp16", tendril::f16},      {"f64", tendril::f64},
      {"float64", tendril::f64}, {"fp64", tendril::f64}};
  const auto found = kNames.find(name);
  if (found == kNames.end())
    throw UsageError("--dtype must be f32, bf16, f16 or f64; got \"" + name + "\"");
  return found->second;
}

// --name value and --name=value; paths anywhere; after "--" everything is a path.
Arguments parse(const std::vector<std::string>& words) {
  Arguments result;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string word = words[i];
    if (word == "--") {
      result.paths.insert(result.paths.end(), words.begin() + static_cast<ptrdiff_t>(i) + 1,
                          words.end());
      break;
    }
    if (!word.starts_with('-')) {
      result.paths.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    const bool has_value = equals != std::string::npos;
    std::string text = has_value ? word.substr(equals + 1) : "";
    if (has_value) word.resize(equals);
    const auto value = [&] {
      if (!has_value && i + 1 == words.size()) throw UsageError(word + " needs a value");
      return has_value ? text : words[++i];
    };
    if (word == "--dtype")
      result.dtype = dtype_from(value());
    else if (word == "--prefix")
      result.prefix = value();
    else if (word == "--no-verify" && !has_value)
      result.verify = false;
    else if ((word == "--help" || word == "-h") && !has_value)
      result.wants_help = true;
    else
      throw UsageError("unknown argument " + words[i]);
  }
  if (!result.wants_help && result.paths.size() != 2)
    throw UsageError("CHECKPOINT and OUT are needed; got " + std::to_string(result.paths.size()) +
                     " paths");
  return result;
}

fs::path output_file(const fs::path& out) {
  if (out.extension() == ".safetensors") return out;
  std::error_code error;
  fs::create_directories(out, error);
  TENDRIL_CHECK(!error, "cannot make folder ", out.string(), ": ", error.message());
  return out / "model.safetensors";
}

// A checkpoint of the Trainer has its weights in a folder of their own.
fs::path shards_of(const fs::path& checkpoint) {
  const fs::path weights = checkpoint / "model";
  return fs::exists(weights / "manifest.json") ? weights : checkpoint;
}

void merge(const Arguments& arguments) {
  const fs::path folder = shards_of(arguments.paths[0]);
  tendril::dist::ShardedCheckpoint::open(folder, arguments.verify);
  const fs::path file = output_file(arguments.paths[1]);
  tendril::dist::merge_sharded(folder, file, arguments.dtype, arguments.prefix);
  std::cout << file.string() << ": " << fs::file_size(file) << " bytes\n";
}

}  // namespace

int main(int argc, char** argv) try {
  const Arguments arguments = parse({argv + 1, argv + argc});
  if (arguments.wants_help)
    std::cout << kHelp;
  else
    merge(arguments);
  return 0;
} catch (const UsageError& error) {
  std::cerr << "tendril-merge: " << error.what() << "; see tendril-merge --help\n";
  return 2;
} catch (const std::exception& error) {
  std::cerr << "tendril-merge: " << error.what() << "\n";
  return 1;
}
