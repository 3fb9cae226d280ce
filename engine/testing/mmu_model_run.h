// ModelRun: a random sequence of verbs, made on a TdpMmu and on the model and
// compared after each step: results, entries, host, counters and limits of the
// frames touched; now and then of all frames.
//
// A sequence follows from its seed alone: what differed in step n of a seed
// differs there again.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_TESTING_MMU_MODEL_RUN_H_
#define ENGINE_TESTING_MMU_MODEL_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/mmu/tdp_mmu.h"
#include "engine/testing/fake_backing.h"
#include "engine/testing/mmu_model.h"

namespace tdp::testing {

struct ModelFailure {
  uint64_t seed = 0;
  int64_t step = 0;  // the first is 0
  std::string operation;
  std::string difference;

  std::string ToString() const;
  friend bool operator==(const ModelFailure&, const ModelFailure&) = default;
};

struct ModelRunOptions {
  uint64_t seed = 0;
  int64_t steps = 0;
  bool print_operations = false;
  // Before this step the host begins to map a frame that no entry grants.
  std::optional<int64_t> planted_at = std::nullopt;
};

class ModelRun {
 public:
  explicit ModelRun(const ModelRunOptions& options);
  ~ModelRun();
  ModelRun(const ModelRun&) = delete;
  ModelRun& operator=(const ModelRun&) = delete;

  // Nothing if everything agreed. Call it once.
  std::optional<ModelFailure> Run();

 private:
  using Stop = StopCheck;
  using Verb = std::function<MmuProgress(GfnRange rest, Stop stop)>;

  // mmu_model_run.cc
  void AddSlot(const MmuModel::Slot& slot);
  void Step();
  void StepFault();
  void StepMap();
  void StepZap();
  void StepProtect();
  void StepWriteProtect();
  void StepSplit();
  void StepCollapse();
  void StepAge();
  void StepBatch();
  void StepDropHost();
  void StepDiscard();
  void StepSlotLife();
  void StepGiant();
  void CloseSlot(size_t index);
  void OpenSlot(size_t index);
  void DeleteSlot(size_t index);
  // Makes a ranged verb, in one call or in many, and compares the sums.
  void Make(GfnRange range, const Verb& verb,
            const std::function<MmuModel::Result()>& expected);
  void MapFrames(GfnRange range, const MapOptions& options);
  void ZapFrames(GfnRange range);
  void ProtectFrames(GfnRange range, Access limit);

  uint64_t Random(uint64_t below) { return random_() % below; }
  bool OneIn(uint64_t n) { return Random(n) == 0; }
  uint64_t RandomFrame();
  GfnRange RandomRange();
  Access RandomLimit();

  // mmu_model_compare.cc
  void Differ(const std::string& difference);
  template <typename A, typename B>
  void Compare(const char* what, const A& actual, const B& expected);
  void CompareStatus(const absl::Status& status, MmuModel::Error error);
  void CompareFrames(GfnRange range);
  void CompareEntry(uint64_t gfn, int64_t root, const WalkedEntry& entry);
  void CompareHost(GfnRange range);
  void ComparePath(uint64_t gfn);
  void CompareWalk(GfnRange range);
  void CompareAudit(GfnRange range);
  void CompareCounters();
  void CompareRoots();
  void CompareAll();
  void CompareEnd();

  const ModelRunOptions options_;
  std::mt19937_64 random_;
  RcuDomain rcu_{int64_t{64} << 20};
  FakeBackingTable backings_;
  std::unique_ptr<TdpMmu> mmu_;
  MmuModel model_;
  std::string operation_;
  std::string difference_;
  // Frames of the step, to be compared.
  GfnRange touched_;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_MMU_MODEL_RUN_H_
