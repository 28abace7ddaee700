"""The words in pictures, in English and Japanese."""

from __future__ import annotations

from ..errors import FigureError

JAPANESE = {
    "gradient": "勾配",
    # charts
    "What each time step gave to the gradient": "各時刻が勾配に与えた寄与",
    "share of the gradient": "勾配に占める割合",
    "time step t": "時刻 t",
    "share": "割合",
    "norm (whole gradient: 100 %)": "ノルム（勾配全体を 100 % とする）",
    "running sum": "累計",
    "marks at the edges: zero or less, or not finite": "端の印：0 以下、または有限でない値",
    "marks at the edges: not finite": "端の印：有限でない値",
    "outside": "外部",
    "not finite": "有限でない値",
    "not finite (NaN, inf)": "有限でない値（NaN、inf）",
    "{step}: share {share}, norm {norm}": "{step}：割合 {share}、ノルム {norm}",
    "outside of the loop: share {share}": "ループの外：割合 {share}",
    "{n} time steps to a column: shares are added, of norms the largest is shown": (
        "1 本につき {n} 時刻：割合は合計、ノルムは最大値"
    ),
    "There is no time step.": "時刻がありません。",
    "{n} time steps.": "時刻の数は {n}。",
    "The largest share is {high} at t = {most}, the smallest {low} at t = {least}.": (
        "割合は t = {most} で最大 {high}、t = {least} で最小 {low}。"
    ),
    "From outside of the loop: {share}.": "ループの外からは {share}。",
    "Not finite: {n}.": "有限でない値は {n} 個。",
    "There is nothing to draw.": "描くものがありません。",
    "And {n} more curves.": "ほかに曲線が {n} 本。",
    "{name}: nothing to draw": "{name}：描く値なし",
    "{name}: {value} at {place}": "{name}：{place} で {value}",
    "{name}: from {a} at {start} to {b} at {end}; smallest {low}, largest {high}.": (
        "{name}：{start} で {a}、{end} で {b}、最小 {low}、最大 {high}。"
    ),
    "{size} values.": "値の数は {size}。",
    "From {low} at ({a}, {b}) to {high} at ({c}, {d}) (row, column).": (
        "（行、列）= ({a}, {b}) の {low} から ({c}, {d}) の {high} まで。"
    ),
    "{size} values: of each block the one of largest magnitude is shown": (
        "値の数は {size}：各ブロックで絶対値が最大の値を表示"
    ),
    "{peak} (magnitude)": "最大 {peak}（絶対値）",
    "({row}, {column}): {value}": "({row}, {column})：{value}",
    "No value is other than zero.": "すべての値が 0 です。",
    ".": "。",
    " ": "",  # between sentences
    "; ": "。",
    # the page
    "Step through the figure": "図を順に見る",
    "First": "最初",
    "Previous": "前へ",
    "Play": "再生",
    "Pause": "一時停止",
    "Next": "次へ",
    "Last": "最後",
    "Step": "ステップ",
    # graphs
    "Computation graph": "計算グラフ",
    "Computation graph of {name}": "{name} の計算グラフ",
    "leaf": "葉",
    "constant": "定数",
    "{count} more": "ほか {count} 個",
    "coloured frame: leaf": "色枠：葉（入力と重み）",
    "dashed: constant": "破線：定数",
    "∂: gradient of the result": "∂：その値に対する結果の勾配",
    "|∂| ≤: of arrays, the largest absolute value": "|∂| ≤：配列では絶対値の最大",
    "{count} operations": "演算 {count} 個",
    "{names} lead to {call}": "{names} から {call}",
    ", ": "、",
    # cells
    "Feed-forward layer": "順伝播型の層",
    "nothing goes back": "フィードバックがない",
    "the state goes back in, one step later": "状態が 1 時刻後に入力側へフィードバックされる",
    "The step reads values: this is its way for x = 1.": (
        "このステップは値で分岐する：図は x = 1 のときの経路。"
    ),
    "{name}, folded, beside a feed-forward layer": "{name}（展開前）と順伝播型の層",
    "one step later": "1 時刻後",
    "input": "入力",
    "output": "出力",
    "the state before": "1 時刻前の状態",
    "the new state": "新しい状態",
    "{name}: {states} go back in, one step later": "{name}：{states} を 1 時刻後にフィードバック",
    "weights: {names}": "重み：{names}",
    "calls: {names}": "演算：{names}",
    "none": "なし",
    "not used: {names}": "使われない重み：{names}",
    # tasks
    "Kinds of task": "タスクの種類",
    "one to one": "一対一",
    "one to many": "一対多",
    "many to one": "多対一",
    "many to many, step by step": "多対多（各時刻に出力）",
    "many to many, encoder and decoder": "多対多（符号化器と復号化器）",
    "many to many, bidirectional": "多対多（双方向）",
    "an image and its label: no time, no recurrence": "画像とラベル：時間も再帰もない",
    "writing text or music from a first note": "最初の一つから文章や音楽を生成",
    "the sentiment of a sentence": "文の感情分類",
    "tagging words, forecasting a series": "単語のタグ付け、時系列の予測",
    "translation: first read all, then write": "翻訳：すべて読んでから書く",
    "tagging words with what comes after them": "後に続く語も使う単語のタグ付け",
    "an output that is read": "使われる出力",
    "another network": "別のネットワーク",
    "the same weights": "同じ重み",
    "an output is the next input": "出力が次の入力になる",
    "{title}: {steps} steps, inputs at {xs}, outputs read at {ys}; {use}; {code}": (
        "{title}：{steps} 時刻、入力は {xs}、使う出力は {ys}。{use}。{code}"
    ),
    # unrolled networks
    "merge": "結合",
    "inputs": "入力",
    "outputs": "出力",
    "forward": "順方向",
    "reverse": "逆方向",
    "a loop": "ループ",
    "the initial state": "初期状態",
    "the state goes on": "状態が引き継がれる",
    "every step reads all of these": "各時刻がこのすべてを読む",
    "the gradient goes back": "勾配が逆向きに伝わる",
    "the gradient goes back: {norm}": "勾配が逆向きに伝わる：{norm}",
    "truncated: no gradient goes back further": "打ち切り：ここから先へ勾配は戻らない",
    "{name}: one weight, used at {count} steps": "{name}：一つの重みを {count} 時刻で共有",
    "the loss: {value}": "損失：{value}",
    "gradient of {name}": "{name} の勾配",
    "share of each step": "各時刻の割合",
    "goal: {target}": "正解：{target}",
    "outside of the loops: {share}": "ループの外：{share}",
    "t = {t}: {share} of the gradient of {name}, size {size}": (
        "t = {t}：{name} の勾配の {share}、大きさ {size}"
    ),
    "colour: |dJ/dh|": "色：|dJ/dh|",
    "padding in {count} rows: the state is held": "{count} 系列はパディング：状態を保つ",
    "{count} more steps": "ほか {count} 時刻",
    "{names}, unrolled in time": "{names} を時間方向に展開した図",
    "{count} time steps from left to right.": "左から右へ {count} 時刻。",
    "Each weight stands once and is used at every step: {weights}.": (
        "どの重みも一つだけで、全時刻で共有される：{weights}。"
    ),
    "{title}: the gradient's norm is {first} at t = {a} and {last} at t = {b}.": (
        "{title}：勾配のノルムは t = {a} で {first}、t = {b} で {last}。"
    ),
    "Forward, {k} of {n}: {what}": "順伝播 {k}/{n}：{what}",
    "Backward, {k} of {n}: {what}": "逆伝播 {k}/{n}：{what}",
    "The loss: J = {value}": "損失：J = {value}",
    "; dJ/d{name} so far: {share}": "。dJ/d{name} のここまでの割合：{share}",
    # results
    "What each time step contributes to the gradient of {name}": "{name} の勾配への各時刻の寄与",
    "the weight": "重み",
    "How large the gradient is at each time step": "各時刻での勾配の大きさ",
    "How much of a change of the state at t is left at the end": (
        "時刻 t の状態の変化が最後にどれだけ残るか"
    ),
    "norm": "ノルム",
    "How strongly output t depends on input s": (
        "時刻 t の出力が時刻 s の入力にどれだけ依存するか"
    ),
    "input at s": "入力の時刻 s",
    "output at t": "出力の時刻 t",
    "The state along the sequence": "系列に沿った隠れ状態",
    "unit": "ユニット",
    # the report
    "Backpropagation through time, made visible": "目で見る BPTT（時間方向の誤差逆伝播）",
    "Unrolled in time": "時間方向の展開",
    "Go through it with the buttons or the arrow keys: forward first, then back. Each weight is "
    "one and the same at every step: its gradient is a sum over the steps.": (
        "ボタンか矢印キーで、順伝播、逆伝播の順に 1 時刻ずつ進めます。どの重みも全時刻で同じ一つの"
        "ものなので、その勾配は各時刻の寄与の和になります。"
    ),
    "The sum that BPTT is": "BPTT は各時刻の寄与の和",
    "V acts at every time step, and its gradient is the sum of what every step gives. Filled: a "
    "step's share, along the direction of the whole gradient. Hollow: how large its part is; what "
    "points elsewhere cancels.": (
        "V はすべての時刻で使われるので、その勾配は各時刻の寄与の和になります。塗りつぶした棒は、"
        "寄与のうち勾配全体の向きの成分で、勾配全体に占める割合を示します。白抜きの棒は寄与の"
        "大きさです。ほかの向きの成分は打ち消し合います。"
    ),
    "What the state holds": "隠れ状態が覚えていること",
    "Each row is a unit of the hidden state, each column a character.": (
        "行は隠れ状態のユニット、列は文字です。"
    ),
    "Vanishing and exploding gradients": "勾配消失と勾配爆発",
    "The loss reads the last state only: how much of its gradient gets back to t? Through tanh "
    "it vanishes, through a linear RNN with a large V it explodes. Where the gates of an LSTM "
    "or a GRU stay open (bias 3), it fades slowly.": (
        "損失は最後の状態だけから計算されます。その勾配は時刻 t までどれだけ届くでしょうか。tanh を"
        "通ると消失し、V の大きな線形 RNN では爆発します。LSTM や GRU のゲートが開いていれば"
        "（バイアス 3）、ゆっくりとしか薄まりません。"
    ),
    "linear RNN, 1.1 V": "線形 RNN、1.1 V",
    "An RNN sees the past": "RNN は過去を見る",
    "Rows are times of outputs, columns times of inputs. Above the diagonal all is 0.": (
        "行は出力の時刻、列は入力の時刻です。対角線の右上は 0 です。"
    ),
    "A BiRNN sees past and future": "双方向性 RNN は過去と未来を見る",
    "Here both sides of the diagonal have values.": "こちらでは対角線の両側に値があります。",
    "Learning": "学習",
    "The curve of the demo's character RNN.": "デモの文字 RNN の学習曲線です。",
    "loss": "損失",
    "Nats per character while real text is learnt": "学習中の 1 文字あたりの損失（ナット）",
    "training step": "学習ステップ",
    "nats": "ナット",
}


def say(text: str, lang: str, **values: object) -> str:
    """A label in the language of the picture: `{}` fields are filled after translation.

    say("gradient", "ja")      # '勾配'

    What has no translation yet stays English; a test lists such labels. Raises FigureError for a
    language other than "en" and "ja".
    """
    if lang not in ("en", "ja"):
        raise FigureError(f"lang={lang!r}: expected 'en' or 'ja'")
    text = JAPANESE.get(text, text) if lang == "ja" else text
    return text.format(**values) if values else text
