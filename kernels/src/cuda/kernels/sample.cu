// Draws a sequence's next token from its logits, on the device, with the meaning and the random number
// that rust_native's sampler has on the CPU: temperature, then top-k with all equals of the k-th, then
// top-p up to and including the token that reaches p; the number is Philox's of (seed, sequence, drawn).
//
// Logits are compared as unsigned numbers in their order (`ordered`), so the k-th largest, and the least that
// belongs to the nucleus, are found bit by bit: 32 passes over V numbers that lie in L2. Weights are f32,
// their sums f64 in an order that depends on V and the block alone, so a draw repeats.

// First two of the four words of block `index` of stream `stream`: Philox4x32-10 (Salmon et al., 2011).
__device__ inline double philox_uniform(unsigned long long seed, unsigned long long stream,
                                        unsigned long long index) {
    unsigned key0 = (unsigned)seed, key1 = (unsigned)(seed >> 32);
    unsigned c0 = (unsigned)index, c1 = (unsigned)(index >> 32);
    unsigned c2 = (unsigned)stream, c3 = (unsigned)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        const unsigned long long a = (unsigned long long)c0 * 0xD2511F53u;
        const unsigned long long b = (unsigned long long)c2 * 0xCD9E8D57u;
        c0 = (unsigned)(b >> 32) ^ c1 ^ key0;
        c1 = (unsigned)b;
        c2 = (unsigned)(a >> 32) ^ c3 ^ key1;
        c3 = (unsigned)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (double)(((unsigned long long)c0 << 32 | c1) >> 11) / 9007199254740992.0;
}

// Sum over a block, the same in every thread; scratch: a double a thread. Ends with a barrier.
__device__ inline double block_sum(double x, double *scratch) {
    scratch[threadIdx.x] = x;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        __syncthreads();
    }
    const double total = scratch[0];
    __syncthreads();
    return total;
}

// One sequence's logits, and which of them are still in question.
struct Candidates {
    const float *logits;
    int begin, end; // this thread's stretch of ids
    float temperature, max;
    unsigned least; // ordered(scaled logit) is at least this

    __device__ float scaled(int id) const { return logits[id] / temperature; }
    __device__ unsigned key(int id) const { return ordered(scaled(id)); }
    __device__ float weight(int id) const { return weight_of(scaled(id), max); }

    // How many, or what weight, this thread has from `from` on.
    __device__ double count(unsigned from) const {
        double n = 0.0;
        for (int id = begin; id < end; id++) n += key(id) >= from ? 1.0 : 0.0;
        return n;
    }
    __device__ double mass(unsigned from) const {
        double n = 0.0;
        for (int id = begin; id < end; id++) n += key(id) >= from ? (double)weight(id) : 0.0;
        return n;
    }
};

// grid (B), 256 threads, a power of two. Shared memory: a double a thread.
__device__ inline void sample_row(const float *logits, const unsigned long long *seed, int *drawn, int *token,
                                  int *position, int *output, int vocabulary, int context, int length,
                                  int first, int top_k, float temperature, float top_p) {
    SHARED_MEMORY(shared);
    double *scratch = (double *)shared;
    const int sequence = blockIdx.x, stretch = (vocabulary + blockDim.x - 1) / blockDim.x;
    wait_for_predecessor();
    let_successor_start();
    Candidates all;
    all.logits = logits + (long long)sequence * vocabulary;
    all.begin = min((int)threadIdx.x * stretch, vocabulary);
    all.end = min(all.begin + stretch, vocabulary);
    all.temperature = temperature;
    all.least = 0;
    // The largest: through the barrier as f64, which holds every f32.
    float largest = minus_infinity();
    for (int id = all.begin; id < all.end; id++) largest = fmaxf(largest, all.scaled(id));
    scratch[threadIdx.x] = largest;
    __syncthreads();
    for (int t = 0; t < (int)blockDim.x; t++) largest = fmaxf(largest, (float)scratch[t]);
    __syncthreads();
    all.max = largest;
    if (top_k > 0 && top_k < vocabulary) {
        for (int bit = 31; bit >= 0; bit--) {
            const unsigned higher = all.least | 1u << bit;
            if (block_sum(all.count(higher), scratch) >= (double)top_k) all.least = higher;
        }
    }
    // Of the equals of the least, how many are in: the lowest ids first.
    double equals = (double)vocabulary;
    if (top_p < 1.0f) {
        const unsigned kept = all.least;
        const double mass = (double)top_p * block_sum(all.mass(kept), scratch);
        unsigned least = 0;
        for (int bit = 31; bit >= 0; bit--) {
            const unsigned higher = least | 1u << bit;
            if (block_sum(all.mass(max(higher, kept)), scratch) >= mass) least = higher;
        }
        least = max(least, kept);
        all.least = least;
        const double above = least == 0xffffffffu ? 0.0 : block_sum(all.mass(least + 1u), scratch);
        const double same = block_sum(all.count(least), scratch) -
                            (least == 0xffffffffu ? 0.0 : block_sum(all.count(least + 1u), scratch));
        const double each = (block_sum(all.mass(least), scratch) - above) / same;
        equals = each > 0.0 ? ceil((mass - above) / each) : same;
        equals = equals < 1.0 ? 1.0 : equals;
    }
    // Equals that lower threads have.
    double here = 0.0;
    for (int id = all.begin; id < all.end; id++) here += all.key(id) == all.least ? 1.0 : 0.0;
    scratch[threadIdx.x] = here;
    __syncthreads();
    double before = 0.0;
    for (int t = 0; t < (int)threadIdx.x; t++) before += scratch[t];
    __syncthreads();
    // Each thread's weight, then the thread that the number falls to, then the id in its stretch.
    double mine = 0.0, seen = before;
    for (int id = all.begin; id < all.end; id++) {
        const unsigned key = all.key(id);
        if (key > all.least || (key == all.least && seen < equals)) mine += (double)all.weight(id);
        if (key == all.least) seen += 1.0;
    }
    scratch[threadIdx.x] = mine;
    __syncthreads();
    double total = 0.0, below = 0.0;
    int owner = -1, fallback = 0;
    for (int t = 0; t < (int)blockDim.x; t++) total += scratch[t];
    double left = philox_uniform(*seed, first + sequence, drawn[sequence]) * total;
    for (int t = 0; t < (int)blockDim.x; t++) {
        if (scratch[t] > 0.0) fallback = t;
        if (owner < 0 && below + scratch[t] > left && scratch[t] > 0.0) owner = t;
        if (owner < 0) below += scratch[t];
    }
    __syncthreads();
    // Rounding left a crumb: it belongs to the last token with any weight.
    if (owner < 0) owner = fallback, below = left - scratch[fallback];
    if ((int)threadIdx.x != owner) return;
    int next = all.begin;
    left -= below;
    seen = before;
    for (int id = all.begin; id < all.end && left >= 0.0; id++) {
        const unsigned key = all.key(id);
        if (key > all.least || (key == all.least && seen < equals)) {
            const double weight = (double)all.weight(id);
            if (weight > 0.0) next = id;
            left -= weight;
        }
        if (key == all.least) seen += 1.0;
    }
    drawn[sequence] += 1;
    go_on(next, token + sequence, position + sequence, output + (long long)sequence * context, length, context);
}
