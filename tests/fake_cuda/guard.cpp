// A CUDA of which there is only the name, for a CPU build of PyTorch: a device guard that guards nothing, hooks that
// say yes, and page-locked memory that is plain memory. With it autograd and autocast carry fake CUDA tensors.
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <mutex>
#include <set>

namespace {

using c10::Device, c10::DeviceIndex, c10::DeviceType, c10::Stream;

struct Nothing final : c10::impl::DeviceGuardImplInterface {
  static constexpr DeviceType kind = DeviceType::CUDA;
  DeviceType type() const override { return kind; }
  Device exchangeDevice(Device) const override { return Device(kind, 0); }
  Device getDevice() const override { return Device(kind, 0); }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const noexcept override { return Stream(Stream::DEFAULT, Device(kind, 0)); }
  Stream getNewStream(Device, int) const override { return Stream(Stream::DEFAULT, Device(kind, 0)); }
  Stream exchangeStream(Stream) const noexcept override { return Stream(Stream::DEFAULT, Device(kind, 0)); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
};

std::mutex lock;
std::set<const void*> pinned; // where page-locked blocks begin

void give_back(void* block) {
  {
    std::lock_guard<std::mutex> held(lock);
    pinned.erase(block);
  }
  c10::GetDefaultCPUAllocator()->raw_deallocate(block);
}

struct Pinned final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* block = c10::GetDefaultCPUAllocator()->raw_allocate(size);
    std::lock_guard<std::mutex> held(lock);
    pinned.insert(block);
    return {block, block, &give_back, Device(DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t size) const override { default_copy_data(to, from, size); }
};

} // namespace

namespace at {

struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static Pinned allocator;
    return &allocator;
  }
  bool isPinnedPtr(const void* block) const override {
    std::lock_guard<std::mutex> held(lock);
    return pinned.count(block) > 0;
  }
};
REGISTER_CUDA_HOOKS(CUDAHooks)

} // namespace at

extern "C" void install() {
  if (!c10::impl::hasDeviceGuardImpl(DeviceType::CUDA))
    c10::impl::registerDeviceGuard(DeviceType::CUDA, new Nothing());
}
