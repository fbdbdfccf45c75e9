/* A stand-in for NVIDIA's libnvidia-ml.so.1. FAKE_NVML in the environment says how it behaves: words with commas.
 *   healthy | mig | lost | hang | crash | noise | abort | offspring
 *   init=CODE         nvmlInit fails with CODE
 *   count=N           the number of GPUs (default 2)
 *   memory=BYTES      what every GPU claims (default 80 GiB)
 *   code:FUNCTION=N   that function returns N
 *   same-uuid         every GPU says the same UUID
 *   badtext           names are not UTF-8
 * FAKE_NVML_LOG names a file to which each call of an open or a touch of a GPU is appended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct {
    char legacy[16]; unsigned domain, bus, device, pci_device_id, pci_subsystem_id; char bus_id[32];
} Pci;

static const char *behaviour(void) { const char *s = getenv("FAKE_NVML"); return s ? s : "healthy"; }
static int says(const char *word) { return strstr(behaviour(), word) != NULL; }
static unsigned long long number(const char *key, unsigned long long otherwise) {
    const char *at = strstr(behaviour(), key);
    return at ? strtoull(at + strlen(key), NULL, 10) : otherwise;
}
static int code(const char *function) {
    char key[96];
    snprintf(key, sizeof key, "code:%s=", function);
    return (int)number(key, 0);
}
#define REFUSE_IF_TOLD() do { int c = code(__func__); if (c) return c; } while (0)

/* A handle is 1 + index of the GPU; 100 × that, plus 1 + index of the instance, for a MIG instance. */
static unsigned long gpu_of(void *handle) { unsigned long h = (unsigned long)handle; return (h >= 100 ? h / 100 : h) - 1; }
static int is_instance(void *handle) { return (unsigned long)handle >= 100; }
static unsigned count_of_gpus(void) { return (unsigned)number("count=", 2); }

static void touched(const char *what, unsigned long gpu) {
    const char *path = getenv("FAKE_NVML_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log) { fprintf(log, "%s %lu\n", what, gpu); fclose(log); }
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    touched("init", 0);
    if (says("noise")) { printf("NVIDIA: welcome to the library\n"); fflush(stdout); }
    if (says("offspring") && fork() == 0) { alarm(20); for (;;) pause(); } /* it holds every pipe open */
    if (says("crash")) { int *nowhere = NULL; *(volatile int *)nowhere = 1; }
    if (says("abort")) abort();
    if (says("hang")) for (;;) sleep(3600);
    return (int)number("init=", 0);
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    REFUSE_IF_TOLD(); snprintf(text, size, "550.54.15"); return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { REFUSE_IF_TOLD(); *version = 12040; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { REFUSE_IF_TOLD(); *count = count_of_gpus(); return 0; }

static int open_gpu(unsigned long index, void **handle) {
    if (index >= count_of_gpus()) return 6;
    touched("open", index);
    if (says("lost") && index == 1) return 15;
    *handle = (void *)(index + 1);
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { REFUSE_IF_TOLD(); return open_gpu(index, handle); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **handle) {
    unsigned domain, bus, device;
    REFUSE_IF_TOLD();
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &device) != 3 || bus == 0 || bus % 16) return 6;
    return open_gpu(bus / 16 - 1, handle); /* bus 10 is the first GPU, bus 20 the second */
}
int nvmlDeviceGetPciInfo_v3(void *handle, Pci *pci) {
    REFUSE_IF_TOLD();
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02lX:00.0", 16 * (gpu_of(handle) + 1));
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    REFUSE_IF_TOLD();
    snprintf(text, size, says("badtext") ? "\xff\xfe" : is_instance(handle) ? "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
                                                                             : "NVIDIA A100-SXM4-80GB");
    return 0;
}
#ifndef WITHOUT_UUID
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    unsigned long number = says("same-uuid") ? 7 : (unsigned long)handle;
    REFUSE_IF_TOLD();
    snprintf(text, size, "%s-00000000-0000-4000-8000-%012lx", is_instance(handle) ? "MIG" : "GPU", number);
    return 0;
}
#endif
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    REFUSE_IF_TOLD();
    memory->total = is_instance(handle) ? 10200547328ULL : number("memory=", 85899345920ULL);
    memory->free = memory->total; memory->used = 0;
    return 0;
}
int nvmlDeviceGetComputeMode(void *handle, unsigned *mode) {
    (void)handle; REFUSE_IF_TOLD(); *mode = (unsigned)number("compute-mode=", 0); return 0;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    if (!says("mig")) return 3;
    *current = *pending = gpu_of(handle) == 0; /* the first GPU is divided, the second is whole */
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    (void)handle; *count = (unsigned)number("instances=", 7); return 0;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *parent, unsigned index, void **handle) {
    if (index != 0 && index != 2) return 6; /* places in the table are not filled in order */
    *handle = (void *)(100 * (gpu_of(parent) + 1) + index + 1);
    return 0;
}
