// The README tells the truth: its program is one that is compiled, its links lead somewhere, and
// its index of examples is complete. So does tendril.h, which it says is everything.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = TENDRIL_SOURCE_DIR;

std::string read(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.is_open(), path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_SUITE("readme") {
  TEST_CASE("the program is examples/readme.cpp, about 20 lines long") {
    const std::string readme = read(kRoot / "README.md"), fence = "```cpp\n";
    const size_t begin = readme.find(fence);
    REQUIRE(begin != std::string::npos);
    const size_t start = begin + fence.size();
    const std::string program = readme.substr(start, readme.find("```", start) - start);
    CHECK(program == read(kRoot / "examples" / "readme.cpp"));
    CHECK(std::count(program.begin(), program.end(), '\n') <= 30);
  }

  TEST_CASE("links to files and folders of the repository lead there") {
    static const std::regex kLink(R"(\]\(([^)#]+)\))");
    const std::string readme = read(kRoot / "README.md");
    int links = 0;
    for (std::sregex_iterator link(readme.begin(), readme.end(), kLink), end; link != end; ++link) {
      const std::string target = (*link)[1];
      if (target.starts_with("http")) continue;
      CAPTURE(target);
      CHECK(fs::exists(kRoot / target));
      ++links;
    }
    CHECK(links > 0);
  }

  TEST_CASE("the index names every example") {
    const std::string readme = read(kRoot / "README.md");
    for (const auto& entry : fs::directory_iterator(kRoot / "examples")) {
      if (entry.path().extension() != ".cpp") continue;
      const std::string name = "(examples/" + entry.path().filename().string() + ")";
      CAPTURE(name);
      CHECK(readme.find(name) != std::string::npos);
    }
  }

  TEST_CASE("tendril.h includes every public header of nn and optim, and files from core") {
    const std::string umbrella = read(kRoot / "tendril.h");
    CHECK(umbrella.find("<tendril/core/safetensors.h>") != std::string::npos);
    int headers = 0;
    for (const char* folder : {"nn", "optim"})
      for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
        if (entry.path().extension() != ".h") continue;
        const std::string path = fs::relative(entry.path(), kRoot).generic_string();
        CAPTURE(path);
        const bool is_private = read(entry.path()).starts_with("// Private to ");
        CHECK((umbrella.find("<tendril/" + path + ">") == std::string::npos) == is_private);
        ++headers;
      }
    CHECK(headers > 20);
  }
}
