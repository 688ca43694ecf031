// Decode: products of one to a few rows with weights, each with all that stands before and behind it.
//
// A step of few rows reads every weight once and does next to nothing with it, so its time is the weights'
// bytes over the bandwidth, plus what a launch costs. Hence few kernels, each with its layer norm, bias,
// GELU or residual inside, and 16-byte loads of which each lane has up to 4 under way.
//
//   norm_qkv     Y = LN(x) W + b; queries scaled to [B][C], keys and values straight into the cache
//   project      x += (combined parts of attention) W + b
//   norm_expand  h = GELU(LN(x) W + b)
//   contract     x += h W + b
//   norm_head    logits = LN(x) W, the best of them, and the next token and position
//
// R rows (1, 2, 4 or 8) share each weight that is read; blockIdx.y counts groups of R rows.

// Where the rows of X lie: element k of row r, k = N v + i, at base[r stride + v step + (i / 4) half + i % 4].
// Rows behind `last` are read as the last one: their sums go nowhere.
// In shared memory the two halves of a bf16 vector's 8 inputs lie apart (step 4, half K / 2), so that
// neighbouring lanes read neighbouring 16 bytes and no bank is asked twice.
struct Rows {
    const float *base;
    int last, stride, step, half;
};

template <class W> __device__ inline int place(int k, int width) {
    return Vector<W>::N == 8 ? (k / 4 % 2) * (width / 2) + k / 8 * 4 + k % 4 : k;
}

template <class W, int R> __device__ inline Rows placed_rows(const float *base, int width) {
    return {base, R - 1, width, 4, width / 2};
}

template <class W, int R> __device__ inline void multiply(uint4 raw, const Rows &x, int v, float (&sum)[R]) {
    constexpr int N = Vector<W>::N;
    float w[N];
    Vector<W>::unpack(raw, w);
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int h = 0; h < N / 4; h++) {
            const float4 a = *(const float4 *)(x.base + (long long)min(r, x.last) * x.stride + v * x.step + h * x.half);
            sum[r] += a.x * w[4 * h] + a.y * w[4 * h + 1] + a.z * w[4 * h + 2] + a.w * w[4 * h + 3];
        }
    }
}

// This lane's share of the products of one output's weights with R rows, vectors begin .. end.
template <class W, int R>
__device__ inline void dot(const W *weights, const Rows &x, int begin, int end, float (&sum)[R]) {
    constexpr int U = R > 4 ? 2 : 4; // loads under way; 8 rows need the registers themselves
    const uint4 *vectors = (const uint4 *)weights;
#pragma unroll
    for (int r = 0; r < R; r++) sum[r] = 0.0f;
    for (int v = begin + (int)(threadIdx.x % 32); v < end; v += 32 * U) {
        uint4 raw[U];
#pragma unroll
        for (int u = 0; u < U; u++) raw[u] = v + 32 * u < end ? load_stream(vectors + v + 32 * u) : zero_vector();
#pragma unroll
        for (int u = 0; u < U; u++)
            if (v + 32 * u < end) multiply<W, R>(raw[u], x, v + 32 * u, sum);
    }
}

// Layer norm of R rows into shared memory, in the order of `place`; two passes, as the CPU does it:
//   mean = sum x / C,   var = sum (x - mean)^2 / C,   y = (x - mean) / sqrt(var + epsilon) gain + bias
// Row r of the group is row min(first + r, batch - 1), every `length` rows the last one.
// sums: two floats a warp. Ends with a barrier.
template <class W, int R>
__device__ inline void norm_rows(const float *residual, const float *gain, const float *bias, float *x,
                                 float *sums, int first, int batch, int length, int width, float epsilon) {
    const int threads = blockDim.x / R, row = threadIdx.x / threads, t = threadIdx.x % threads;
    const int warps = threads / 32, warp = threadIdx.x / 32, all = blockDim.x / 32;
    const long long sequence = min(first + row, batch - 1);
    const float *from = residual + (sequence * length + length - 1) * width;
    float *to = x + row * width;
    float sum = 0.0f;
    for (int k = 4 * t; k < width; k += 4 * threads) {
        const float4 v = *(const float4 *)(from + k);
        *(float4 *)(to + place<W>(k, width)) = v;
        sum += v.x + v.y + v.z + v.w;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[warp] = sum;
    __syncthreads();
    float mean = 0.0f;
    for (int w = 0; w < warps; w++) mean += sums[row * warps + w];
    mean /= width;
    // Each thread goes on with the numbers that it wrote itself.
    float squares = 0.0f;
    for (int k = 4 * t; k < width; k += 4 * threads) {
        const float4 v = *(const float4 *)(to + place<W>(k, width));
        const float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
        squares += a * a + b * b + c * c + d * d;
    }
    squares = warp_sum(squares);
    if (threadIdx.x % 32 == 0) sums[all + warp] = squares;
    __syncthreads();
    float variance = 0.0f;
    for (int w = 0; w < warps; w++) variance += sums[all + row * warps + w];
    const float scale = 1.0f / sqrtf(variance / width + epsilon);
    for (int k = 4 * t; k < width; k += 4 * threads) {
        float4 *at = (float4 *)(to + place<W>(k, width));
        const float4 v = *at, g = *(const float4 *)(gain + k), b = *(const float4 *)(bias + k);
        *at = make_float4((v.x - mean) * scale * g.x + b.x, (v.y - mean) * scale * g.y + b.y,
                          (v.z - mean) * scale * g.z + b.z, (v.w - mean) * scale * g.w + b.w);
    }
    __syncthreads();
}

// Y = LN(x) W + b of R rows, and what `end(row, output, sum)` makes of each sum; row within the group.
// A warp takes every (8 gridDim.x)-th output. Shared memory: R C + 16 floats, then `end`'s own.
template <class W, int R, class End>
__device__ inline void norm_product(const float *residual, const float *gain, const float *bias,
                                    const W *weights, int batch, int length, int width, int outputs,
                                    float epsilon, unsigned char *shared, End &end) {
    float *x = (float *)shared, *sums = x + R * width;
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32;
    int output = blockIdx.x * warps + threadIdx.x / 32;
    if (output < outputs) prefetch_row(weights + (long long)output * width, width);
    wait_for_predecessor();
    let_successor_start();
    norm_rows<W, R>(residual, gain, bias, x, sums, blockIdx.y * R, batch, length, width, epsilon);
    const Rows rows = placed_rows<W, R>(x, width);
    for (; output < outputs; output += gridDim.x * warps) {
        float sum[R];
        dot<W, R>(weights + (long long)output * width, rows, 0, width / Vector<W>::N, sum);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float total = warp_sum(sum[r]);
            if (lane == r && (int)(blockIdx.y * R) + r < batch) end(blockIdx.y * R + r, output, total);
        }
    }
}

// Where a query, key or value goes: output o of 3 C, at `position` of `sequence`.
template <class W>
__device__ inline void store_qkv(float value, int output, long long row, long long sequence, int position,
                                 float *query, W *keys, W *values, int width, int heads, int context,
                                 float scale) {
    const int part = output / width, c = output % width, d = width / heads;
    if (part == 0) {
        query[row * width + c] = value * scale;
        return;
    }
    W *cache = part == 1 ? keys : values;
    store(cache + ((sequence * heads + c / d) * context + position) * d + c % d, value);
}

template <class W> struct EndQkv {
    const float *bias;
    const int *position;
    float *query;
    W *keys, *values;
    int width, heads, context;
    float scale;
    __device__ void operator()(int row, int output, float sum) {
        store_qkv(sum + bias[output], output, row, row, position[row], query, keys, values, width, heads,
                  context, scale);
    }
};

// grid (outputs / 8, B / R), 256 threads. Reads 3 C C weights.
template <class W, int R>
__device__ inline void norm_qkv(const float *residual, const float *gain, const float *norm_bias,
                                const W *weights, const float *bias, const int *position, float *query,
                                W *keys, W *values, int batch, int width, int heads, int context,
                                float epsilon, float scale) {
    SHARED_MEMORY(shared);
    EndQkv<W> end = {bias, position, query, keys, values, width, heads, context, scale};
    norm_product<W, R>(residual, gain, norm_bias, weights, batch, 1, width, 3 * width, epsilon, shared, end);
}

// GPT-2's GELU: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
__device__ inline float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

struct EndGelu {
    const float *bias;
    float *hidden;
    int outputs;
    __device__ void operator()(int row, int output, float sum) {
        hidden[(long long)row * outputs + output] = gelu(sum + bias[output]);
    }
};

// grid (outputs / 8, B / R), 256 threads. Reads F C weights.
template <class W, int R>
__device__ inline void norm_expand(const float *residual, const float *gain, const float *norm_bias,
                                   const W *weights, const float *bias, float *hidden, int batch, int width,
                                   int inner, float epsilon) {
    SHARED_MEMORY(shared);
    EndGelu end = {bias, hidden, inner};
    norm_product<W, R>(residual, gain, norm_bias, weights, batch, 1, width, inner, epsilon, shared, end);
}

// x += X W + b for few outputs: `parts` warps share one, each a stretch of its inputs, because a warp an
// output would leave most of a GPU without work. sums: a float a warp and row.
template <class W, int R>
__device__ inline void add_product(const Rows &rows, const W *weights, const float *bias, float *residual,
                                   float *sums, int batch, int inputs, int outputs, int parts) {
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int slots = warps / parts, output = blockIdx.x * slots + warp / parts;
    const int vectors = inputs / Vector<W>::N, part = (vectors + parts - 1) / parts;
    const int begin = warp % parts * part, end = min(begin + part, vectors);
    float sum[R];
    dot<W, R>(weights + (long long)min(output, outputs - 1) * inputs, rows, begin, end, sum);
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float total = warp_sum(sum[r]);
        if (lane == 0) sums[warp * R + r] = total;
    }
    __syncthreads();
    const int slot = threadIdx.x / R, r = threadIdx.x % R, row = blockIdx.y * R + r;
    const int mine = blockIdx.x * slots + slot;
    if (slot < slots && mine < outputs && row < batch) {
        float total = bias[mine];
        for (int p = 0; p < parts; p++) total += sums[(slot * parts + p) * R + r];
        residual[(long long)row * outputs + mine] += total;
    }
}

template <class W> __device__ inline void prefetch_output(const W *weights, int inputs, int outputs, int parts) {
    const int output = blockIdx.x * (blockDim.x / 32 / parts) + threadIdx.x / 32 / parts;
    if (output < outputs && threadIdx.x / 32 % parts == 0)
        prefetch_row(weights + (long long)output * inputs, inputs);
}

// The parts of a row's attention, combined and handed to `put` one by one.
// With M = max over parts of m_s:  x = sum_s e^(m_s - M) partial_s / sum_s e^(m_s - M) l_s, head by head.
// factors: 32 floats a head, shared. Has a barrier inside; before `factors` is used again there must be one more.
template <class Put>
__device__ inline void combine_parts(const float *partial, const float *stats, float *factors, long long row,
                                     int width, int heads, int splits, const Put &put) {
    const int d = width / heads;
    for (int head = threadIdx.x; head < heads; head += blockDim.x) {
        float max = minus_infinity(), total = 0.0f;
        for (int s = 0; s < splits; s++) max = fmaxf(max, stats[((row * splits + s) * heads + head) * 2]);
        for (int s = 0; s < splits; s++) {
            const float *part = stats + ((row * splits + s) * heads + head) * 2;
            const float factor = weight_of(part[0], max);
            factors[head * 32 + s] = factor;
            total += factor * part[1];
        }
        for (int s = 0; s < splits; s++) factors[head * 32 + s] /= total;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        float sum = 0.0f;
        for (int s = 0; s < splits; s++) {
            const float factor = factors[c / d * 32 + s];
            // A part without positions has not written its sum.
            if (factor != 0.0f) sum += factor * partial[(row * splits + s) * width + c];
        }
        put(c, sum);
    }
}

template <class W> struct PutPlaced {
    float *x;
    int width;
    __device__ void operator()(int c, float y) const { x[place<W>(c, width)] = y; }
};

// grid (outputs parts / 8, B / R), 256 threads. Reads C C weights, and of attention's parts those in use.
// Shared memory: R C floats of x, H 32 factors of a row, a sum a warp and row.
template <class W, int R>
__device__ inline void project(const float *partial, const float *stats, const W *weights, const float *bias,
                               float *residual, int batch, int width, int heads, int splits, int parts) {
    SHARED_MEMORY(shared);
    float *x = (float *)shared, *factors = x + R * width, *sums = factors + heads * 32;
    prefetch_output(weights, width, width, parts);
    wait_for_predecessor();
    let_successor_start();
    for (int r = 0; r < R; r++) {
        const PutPlaced<W> put = {x + r * width, width};
        combine_parts(partial, stats, factors, min((int)(blockIdx.y * R) + r, batch - 1), width, heads, splits, put);
        __syncthreads();
    }
    add_product<W, R>(placed_rows<W, R>(x, width), weights, bias, residual, sums, batch, width, width, parts);
}

// grid (outputs parts / 8, B / R), 256 threads. Reads C F weights. The rows stay in global memory: 8 of
// them would not fit the shared memory of every device, and all warps of a block read the same.
template <class W, int R>
__device__ inline void contract(const float *hidden, const W *weights, const float *bias, float *residual,
                                int batch, int inner, int width, int parts) {
    SHARED_MEMORY(shared);
    prefetch_output(weights, inner, width, parts);
    wait_for_predecessor();
    let_successor_start();
    const int first = blockIdx.y * R;
    constexpr int N = Vector<W>::N;
    const Rows rows = {hidden + (long long)first * inner, min(batch - first, R) - 1, inner, N, 4};
    add_product<W, R>(rows, weights, bias, residual, (float *)shared, batch, inner, width, parts);
}

// The best logit and its id as one number to take the maximum of: larger logits first, then lower ids.
__device__ inline unsigned long long best_key(float logit, int id) {
    return (unsigned long long)ordered(logit) << 32 | (unsigned)~id;
}

struct EndLogits {
    float *logits;
    unsigned long long *best; // this lane's, of row blockIdx.y R + lane
    int vocabulary;
    __device__ void operator()(int row, int output, float sum) {
        logits[(long long)row * vocabulary + output] = sum;
        const unsigned long long key = best_key(sum, output);
        if (key > *best) *best = key;
    }
};

// The next token of a sequence: where its next step reads it, and in the text.
__device__ inline void go_on(int next, int *token, int *position, int *output, int length, int context) {
    const int at = *position + length;
    *token = next;
    *position = at;
    if (at < context) output[at] = next;
}

// The last block of a head to come here writes the next token and position of all rows (unless `choose` is 0,
// where `sample` will) and leaves everything as the next step needs it. `last` is shared.
__device__ inline void choose_next(unsigned long long *best, unsigned *finished, unsigned *last, int *token,
                                   int *position, int *output, int batch, int context, int length,
                                   int choose) {
    if (!last_to_come(finished, gridDim.x * gridDim.y, last)) return;
    for (int b = threadIdx.x; b < batch; b += blockDim.x) {
        const unsigned long long key = atomicExch(best + b, 0ull);
        if (choose) go_on((int)~(unsigned)key, token + b, position + b, output + (long long)b * context, length, context);
    }
    if (threadIdx.x == 0) *finished = 0;
}

// grid (outputs / 8, B / R), 256 threads. Reads V C weights, 31 % of a step's bytes in GPT-2 124M.
// Each block brings its best of each row to the whole's.
template <class W, int R>
__device__ inline void norm_head(const float *residual, const float *gain, const float *norm_bias,
                                 const W *weights, float *logits, unsigned long long *best,
                                 unsigned *finished, int *token, int *position, int *output, int batch,
                                 int width, int vocabulary, int context, int length, int choose,
                                 float epsilon) {
    SHARED_MEMORY(shared);
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Behind the rows and sums; both are multiples of 8 bytes.
    unsigned long long *bests = (unsigned long long *)((float *)shared + R * width + 2 * warps);
    unsigned *last = (unsigned *)(bests + warps * R);
    unsigned long long mine = 0;
    EndLogits end = {logits, &mine, vocabulary};
    norm_product<W, R>(residual, gain, norm_bias, weights, batch, length, width, vocabulary, epsilon, shared,
                       end);
    if (lane < R) bests[warp * R + lane] = mine;
    __syncthreads();
    const int row = blockIdx.y * R + threadIdx.x;
    if ((int)threadIdx.x < R && row < batch) {
        for (int w = 0; w < warps; w++) mine = max(mine, bests[w * R + threadIdx.x]);
        atomicMax(best + row, mine);
    }
    choose_next(best, finished, last, token, position, output, batch, context, length, choose);
}
