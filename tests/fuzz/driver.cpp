// Stands in for libFuzzer where there is only g++: random changes of the corpus, no feedback.
//   driver [-max_total_time=SECONDS] [-runs=N] [-seed=N] CORPUS...
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
constexpr int32_t kWords[] = {0,   1,     2,     3,       7,         8,  255,
                              256, 65535, 65536, 1 << 30, INT32_MAX, -1, INT32_MIN};

struct Mutator {
  std::mt19937_64 random;
  const std::vector<Bytes>& corpus;

  size_t below(size_t n) { return n ? random() % n : 0; }

  void word(Bytes& b) {
    if (b.size() < 4) return;
    int32_t value;
    uint8_t* place = b.data() + below(b.size() / 4) * 4;
    std::memcpy(&value, place, 4);
    const uint32_t nearby = static_cast<uint32_t>(value) + static_cast<uint32_t>(below(5)) - 2u;
    value = below(2) ? static_cast<int32_t>(nearby) : kWords[below(std::size(kWords))];
    std::memcpy(place, &value, 4);
  }

  Bytes next() {
    Bytes b = corpus[below(corpus.size())];
    for (size_t i = below(6) + 1; i > 0; --i) {
      const Bytes& other = corpus[below(corpus.size())];
      switch (below(5)) {
        case 0:
          if (!b.empty()) b[below(b.size())] ^= static_cast<uint8_t>(1u << below(8));
          break;
        case 1:
        case 2:
          word(b);
          break;
        case 3:
          b.resize(below(b.size() + 1));
          break;
        default:
          b.insert(b.end(), other.begin() + below(other.size()), other.end());
      }
    }
    if (b.size() > 4096) b.resize(4096);
    return b;
  }
};

}  // namespace

int main(int argc, char** argv) {
  double seconds = 0;
  long long most = -1, seed = 1, runs = 0;
  std::vector<Bytes> corpus{{}};
  for (int i = 1; i < argc; ++i) {
    if (std::sscanf(argv[i], "-max_total_time=%lf", &seconds) == 1) continue;
    if (std::sscanf(argv[i], "-runs=%lld", &most) == 1) continue;
    if (std::sscanf(argv[i], "-seed=%lld", &seed) == 1) continue;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  const auto begun = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  for (const Bytes& b : corpus) LLVMFuzzerTestOneInput(b.data(), b.size()), ++runs;
  Mutator mutate{std::mt19937_64(static_cast<uint64_t>(seed)), corpus};
  while ((most < 0 || runs < most) && (seconds <= 0 || elapsed() < seconds)) {
    if (most < 0 && seconds <= 0) break;
    const Bytes b = mutate.next();
    LLVMFuzzerTestOneInput(b.data(), b.size());
    ++runs;
  }
  std::printf("Done %lld runs in %.0f second(s)\n", runs, elapsed());
}
