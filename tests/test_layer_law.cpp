// The layer law: core < autograd < nn, optim < dist < trainer. A folder includes only from folders before it, and
// public headers carry no Eigen, OpenMP, CUDA, MPI or JSON. Read from the #include lines of the
// sources.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

// folder -> what it may include from
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core", {"core"}},
    {"autograd", {"core", "autograd"}},
    {"nn", {"core", "autograd", "nn"}},
    {"optim", {"core", "autograd", "optim"}},
    {"dist", {"core", "autograd", "nn", "optim", "dist"}},
    {"trainer", {"core", "autograd", "nn", "optim", "dist", "trainer"}},
};

bool is_source(const fs::path& path) {
  static const std::set<std::string> kExtensions = {".h", ".cpp", ".cu", ".cuh", ".def"};
  return kExtensions.contains(path.extension().string());
}

// What is installed; a .cuh belongs to the kernels alone.
bool is_header(const fs::path& path) {
  return path.extension() == ".h" || path.extension() == ".def";
}

std::vector<std::string> included_by(const fs::path& path) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"].*)");
  std::vector<std::string> included;
  std::ifstream file(path);
  std::smatch match;
  for (std::string line; std::getline(file, line);)
    if (std::regex_match(line, match, kInclude)) included.push_back(match[1]);
  return included;
}

bool is_foreign(const std::string& include) {
  static const std::regex kForeign(
      R"((unsupported/)?Eigen/.*|eigen3/.*|omp\.h|cuda.*|cublas.*|nccl.*|mpi\.h|nlohmann/.*|yaml-cpp/.*|CLI/.*|doctest/.*)");
  return std::regex_match(include, kForeign);
}

// One line for each include below `root` that breaks the law.
std::vector<std::string> violations(const fs::path& root) {
  static const std::regex kOwn(R"(tendril/([a-z_]+)(/.*|\.h))");
  std::vector<std::string> found;
  for (const auto& [folder, allowed] : kMayInclude) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      for (const std::string& include : included_by(entry.path())) {
        const std::string line =
            fs::relative(entry.path(), root).generic_string() + " includes " + include;
        std::smatch match;
        if (std::regex_match(include, match, kOwn)) {
          if (!allowed.contains(match[1])) found.push_back(line);
        } else if (fs::exists(entry.path().parent_path() / include)) {
          found.push_back(line + " (write <tendril/...>)");
        } else if (is_header(entry.path()) && is_foreign(include)) {
          found.push_back(line);
        }
      }
    }
  }
  return found;
}

// A tree in a fresh folder, removed at the end.
struct MadeUpTree {
  fs::path root =
      fs::temp_directory_path() / ("tendril_layer_law_" + std::to_string(std::random_device{}()));
  ~MadeUpTree() { fs::remove_all(root); }
  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
};

}  // namespace

TEST_SUITE("layer_law") {
  TEST_CASE("the sources keep the layer law") {
    const std::vector<std::string> found = violations(TENDRIL_SOURCE_DIR);
    for (const std::string& line : found) MESSAGE(line);
    CHECK(found.empty());
  }

  TEST_CASE("every folder of the law is there, with sources") {
    for (const auto& layer : kMayInclude) {
      const std::string& folder = layer.first;
      CAPTURE(folder);
      size_t sources = 0;
      for (const auto& entry :
           fs::recursive_directory_iterator(fs::path(TENDRIL_SOURCE_DIR) / folder))
        sources += is_source(entry.path());
      CHECK(sources > 0);
    }
  }

  TEST_CASE("a lawful tree passes") {
    const MadeUpTree tree;
    tree.write("core/tensor.h", "#include <vector>\n#include <tendril/core/shape.h>\n");
    tree.write("core/algebra.cpp", "#include <Eigen/Core>\n#include <omp.h>\n");  // sources may
    tree.write("autograd/tape.h", "#include <tendril/core/tensor.h>\n");
    tree.write("nn/linear.h",
               "#include <tendril/autograd/tape.h>\n#include <tendril/nn/module.h>\n");
    tree.write("optim/adamw.cpp",
               "#include <tendril/core/tensor.h>\n#include <tendril/optim/adamw.h>\n");
    CHECK(violations(tree.root).empty());
  }

  TEST_CASE("each breach is found") {
    const auto breach = [](const std::string& path, const std::string& text) {
      const MadeUpTree tree;
      tree.write("core/tensor.h", "#include <vector>\n");
      tree.write(path, text);
      const std::vector<std::string> found = violations(tree.root);
      return found.size() == 1 && found[0].starts_with(path);
    };
    CHECK(breach("core/a.cpp", "#include <tendril/autograd/tape.h>\n"));
    CHECK(breach("core/ops/a.h", "  #  include \"tendril/nn/module.h\"  // indented\n"));
    CHECK(breach("autograd/rules/a.cpp", "#include <tendril/optim/adamw.h>\n"));
    CHECK(breach("nn/a.cpp", "#include <tendril/optim/adamw.h>\n"));
    CHECK(breach("optim/a.cpp", "#include <tendril/nn/module.h>\n"));
    CHECK(breach("core/a.cpp", "#include <tendril/tendril.h>\n"));
    CHECK(breach("core/a.h", "#include <Eigen/Dense>\n"));
    CHECK(breach("core/a.h", "#include <unsupported/Eigen/CXX11/Tensor>\n"));
    CHECK(breach("nn/a.h", "#include <omp.h>\n"));
    CHECK(breach("nn/a.h", "#include <cuda_runtime.h>\n"));
    CHECK(breach("nn/a.h", "#include <nlohmann/json.hpp>\n"));
    CHECK(breach("optim/a.cpp", "#include <tendril/trainer/callback.h>\n"));
    CHECK(breach("trainer/a.h", "#include <yaml-cpp/yaml.h>\n"));
    CHECK(breach("core/a.cpp", "#include \"tensor.h\"\n"));
  }

  TEST_CASE("ctest runs every file that has test cases") {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(TENDRIL_SOURCE_DIR) / "tests")) {
      if (entry.path().extension() != ".cpp" ||
          entry.path().filename().string().starts_with("test_"))
        continue;
      CAPTURE(entry.path().string());
      std::ifstream file(entry.path());
      std::string line;
      bool has_tests = false;
      while (std::getline(file, line)) has_tests |= line.find("TEST_CASE(") != std::string::npos;
      CHECK_FALSE(has_tests);
    }
  }
}
