// What cuBLASLt is asked for (products.rs), in plain words: y = x W^T of rows [rows][K] and weights [N][K], with
// bias, GELU or residual where it has them as epilogue. Threads share the results; sums are f32.

template <class T, class End>
static void library(const T *x, const T *weights, int rows, int inputs, int outputs, const End &end) {
    for (long long i = threadIdx.x; i < (long long)rows * outputs; i += blockDim.x) {
        const int row = i / outputs, output = i % outputs;
        float sum = 0.0f;
        for (int k = 0; k < inputs; k++)
            sum += widen(x[(long long)row * inputs + k]) * widen(weights[(long long)output * inputs + k]);
        end(i, output, sum);
    }
}

#define LIBRARY(W)                                                                                            \
    static void library_product_##W(const W##_t *x, const W##_t *weights, float *y, int rows, int inputs,     \
                                    int outputs) {                                                            \
        library(x, weights, rows, inputs, outputs, [=](long long i, int, float sum) { y[i] = sum; });         \
    }                                                                                                         \
    static void library_gelu_##W(const W##_t *x, const W##_t *weights, const W##_t *bias, W##_t *y, int rows, \
                                 int inputs, int outputs) {                                                   \
        library(x, weights, rows, inputs, outputs,                                                            \
                [=](long long i, int n, float sum) { store(y + i, gelu(sum + widen(bias[n]))); });            \
    }                                                                                                         \
    static void library_residual_##W(const W##_t *x, const W##_t *weights, const float *bias, float *y,       \
                                     int rows, int inputs, int outputs) {                                     \
        library(x, weights, rows, inputs, outputs,                                                            \
                [=](long long i, int n, float sum) { y[i] = sum + y[i] + bias[n]; });                         \
    }
LIBRARY(f32)
LIBRARY(bf16)
