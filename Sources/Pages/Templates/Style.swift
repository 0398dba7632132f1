extension Templates {
    /// The style of all pages.
    static let style = """
        :root { --ink: #1f2328; --quiet: #59636e; --ground: #faf9f7; --raised: #ffffff; --line: #d8d5cf; --accent: #0b6e75;
          --bad: #a3261b; color-scheme: light dark; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e9e7e3; --quiet: #a3a9b1; --ground: #16181b; --raised: #202327;
          --line: #383d43; --accent: #6cc5cb; --bad: #ff9a8d; } }
        * { box-sizing: border-box; }
        body { margin: 0 auto; max-width: 90rem; padding: 1.25rem clamp(1rem, 3vw, 2.5rem) 3rem; background: var(--ground);
          color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
        h1 { font-size: 1.6rem; line-height: 1.2; margin: .4rem 0; overflow-wrap: anywhere; }
        h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; overflow-wrap: anywhere; }
        p { margin: .4rem 0; }
        a { color: var(--accent); }
        a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px;
          border-radius: 4px; }
        nav a { margin-right: 1rem; }
        img { max-width: 100%; height: auto; display: block; }
        code, pre { font: .875rem/1.5 ui-monospace, monospace; }
        pre { overflow: auto; padding: 1rem; background: var(--raised); border: 1px solid var(--line); border-radius: 8px; }
        .quiet, dt { color: var(--quiet); font-size: .875rem; }
        .note { padding: .6rem .9rem; border-left: 4px solid var(--accent); background: var(--raised); overflow-wrap: anywhere;
          margin-bottom: 1rem; }
        .prompt { white-space: pre-wrap; overflow-wrap: anywhere; }
        .state { display: inline-block; padding: 0 .7rem; border-radius: 1rem; border: 1px solid var(--accent);
          color: var(--accent); }
        .state.paused, .state.stopped, .old .state { border-color: var(--bad); color: var(--bad); }
        .pictures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
        figure { margin: 0; background: var(--raised); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
        figure > a > img { width: 100%; }
        figcaption { padding: .6rem .9rem; }
        .overlay { margin: 0; padding: 0 .9rem .9rem; }
        .overlay img { width: 100%; border-radius: 6px; }
        dl { margin: 0; }
        dd { margin: 0; overflow-wrap: anywhere; }
        .row { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; }
        .row div { display: flex; gap: .4rem; align-items: baseline; }
        .facts { display: grid; gap: .75rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
        ul { padding-left: 1.2rem; }
        .references, .cards { list-style: none; padding: 0; margin: 0; display: grid; gap: 1.25rem; }
        .references { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
        .references img { border: 1px solid var(--line); border-radius: 8px; margin-bottom: .4rem; background: #fff; }
        .cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); }
        .card { display: flex; flex-direction: column; min-width: 0; }
        .card a { text-decoration: none; }
        .card img, .taken { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 10px; border: 1px solid var(--line); }
        .taken { display: grid; place-items: center; color: var(--quiet); }
        .name { display: block; font-weight: 600; margin-top: .4rem; overflow-wrap: anywhere; }
        .card a:hover .name { text-decoration: underline; }
        .words { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
          overflow-wrap: anywhere; }
        .work { display: flex; flex-wrap: wrap; gap: 0 1.5rem; padding: .25rem 1.25rem 1rem; margin-top: 1rem;
          background: var(--raised); border: 1px solid var(--line); border-radius: 10px; }
        .work > div { flex: 1 1 18rem; min-width: 0; }
        .work h2 { margin-top: 1rem; }
        .preview { width: 12rem; margin-top: 1rem; border-radius: 8px; align-self: flex-start; }
        progress { width: min(100%, 24rem); accent-color: var(--accent); vertical-align: middle; }
        .wide { overflow-x: auto; }
        table { border-collapse: collapse; width: 100%; }
        th, td { text-align: left; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
          font-weight: inherit; overflow-wrap: anywhere; min-width: 6rem; }
        thead th { color: var(--quiet); font-size: .875rem; }
        tbody th { white-space: nowrap; }
        @media (max-width: 44rem) {
          thead { position: absolute; left: -100vw; }
          tr, th, td { display: block; }
          tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
          th, td { border: 0; padding: 0; white-space: normal; }
        }
        .refusal { padding: .5rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
        summary { cursor: pointer; }

        """
}
