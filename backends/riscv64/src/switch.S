# The world switch: from the host into the guest and, at the guest's next trap, back. It stands in the middle of
# the code that runs a vCPU (see switch.rs), which therefore keeps across it only what it needs.
#
# In: a0, the vCPU's Context. Out: t0 = scause, t1 = the guest's a0, t2 = sepc, a1..a7 = the guest's.
# Lost: every register but sp, gp, tp, s0 and s1, which the compiler cannot be told are lost.
#
# sscratch holds the Context while the guest runs.

        sd      sp, {HOST_SP}(a0)
        sd      tp, {HOST_TP}(a0)
        sd      s0, {HOST_S0}(a0)
        sd      s1, {HOST_S1}(a0)
        lla     t0, 2f
        csrw    stvec, t0
        ld      t0, {PC}(a0)
        csrw    sepc, t0
        ld      t0, {SSTATUS}(a0)
        csrw    sstatus, t0
        ld      t0, {HSTATUS}(a0)
        csrw    {CSR_HSTATUS}, t0
        csrw    sscratch, a0

        ld      ra, {X1}(a0)
        ld      sp, {X2}(a0)
        ld      gp, {X3}(a0)
        ld      tp, {X4}(a0)
        ld      t0, {X5}(a0)
        ld      t1, {X6}(a0)
        ld      t2, {X7}(a0)
        ld      s0, {X8}(a0)
        ld      s1, {X9}(a0)
        ld      a1, {X11}(a0)
        ld      a2, {X12}(a0)
        ld      a3, {X13}(a0)
        ld      a4, {X14}(a0)
        ld      a5, {X15}(a0)
        ld      a6, {X16}(a0)
        ld      a7, {X17}(a0)
        ld      s2, {X18}(a0)
        ld      s3, {X19}(a0)
        ld      s4, {X20}(a0)
        ld      s5, {X21}(a0)
        ld      s6, {X22}(a0)
        ld      s7, {X23}(a0)
        ld      s8, {X24}(a0)
        ld      s9, {X25}(a0)
        ld      s10, {X26}(a0)
        ld      s11, {X27}(a0)
        ld      t3, {X28}(a0)
        ld      t4, {X29}(a0)
        ld      t5, {X30}(a0)
        ld      t6, {X31}(a0)
        ld      a0, {X10}(a0)
        sret

# The timer call (SBI 2.0, 6.1), finished here. t0 and t1 are saved. Only an environment call from VS-mode
# can be one: that a7 and a6 look like it says nothing about why the guest trapped.
3:      csrr    t0, scause
        li      t1, {GUEST_ECALL}
        bne     t0, t1, 6f
        bnez    a6, 6f
        csrr    t1, sscratch            # the guest's a0: when
        ld      t0, {OWN_TIMER}(a0)
        beqz    t0, 5f
        csrw    {CSR_VSTIMECMP}, t1
4:      csrr    t0, sepc
        addi    t0, t0, 4
        csrw    sepc, t0
        ld      t0, {X5}(a0)
        ld      t1, {X6}(a0)
        csrw    sscratch, a0
        li      a0, 0
        li      a1, 0
        sret
# Without a timer in hardware the host's is armed. If that fires earlier anyway, it need not be touched.
5:      ld      t0, {ARMED}(a0)
        bleu    t1, t0, 6f
        sd      t1, {DEADLINE}(a0)
        li      t0, {VSTIP}
        csrc    {CSR_HVIP}, t0
        j       4b

# Where the guest's traps go.
        .balign 4
2:      csrrw   a0, sscratch, a0
        sd      t0, {X5}(a0)
        sd      t1, {X6}(a0)
        li      t1, {SBI_TIME}
        beq     a7, t1, 3b
6:      sd      ra, {X1}(a0)
        sd      sp, {X2}(a0)
        sd      gp, {X3}(a0)
        sd      tp, {X4}(a0)
        sd      t2, {X7}(a0)
        sd      s0, {X8}(a0)
        sd      s1, {X9}(a0)
        sd      a1, {X11}(a0)
        sd      a2, {X12}(a0)
        sd      a3, {X13}(a0)
        sd      a4, {X14}(a0)
        sd      a5, {X15}(a0)
        sd      a6, {X16}(a0)
        sd      a7, {X17}(a0)
        sd      s2, {X18}(a0)
        sd      s3, {X19}(a0)
        sd      s4, {X20}(a0)
        sd      s5, {X21}(a0)
        sd      s6, {X22}(a0)
        sd      s7, {X23}(a0)
        sd      s8, {X24}(a0)
        sd      s9, {X25}(a0)
        sd      s10, {X26}(a0)
        sd      s11, {X27}(a0)
        sd      t3, {X28}(a0)
        sd      t4, {X29}(a0)
        sd      t5, {X30}(a0)
        sd      t6, {X31}(a0)

        ld      t0, {HOST_SCRATCH}(a0)
        csrrw   t1, sscratch, t0
        sd      t1, {X10}(a0)
        ld      t0, {HOST_VECTOR}(a0)
        csrw    stvec, t0
        ld      t0, {HOST_HSTATUS}(a0)
        csrw    {CSR_HSTATUS}, t0
        csrr    t0, sstatus
        sd      t0, {SSTATUS}(a0)
        csrr    t0, scause
        csrr    t2, sepc
        ld      sp, {HOST_SP}(a0)
        ld      gp, {HOST_GP}(a0)
        ld      tp, {HOST_TP}(a0)
        ld      s0, {HOST_S0}(a0)
        ld      s1, {HOST_S1}(a0)
