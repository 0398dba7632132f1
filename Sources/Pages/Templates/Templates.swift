/// The pages' templates (Mustache). `{{name}}` is escaped by ``PageText``; the style and the script, which are ours, stand
/// unescaped in `{{{name}}}`, and nothing else does.
enum Templates {
    static let head = """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="{{policy}}">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="referrer" content="no-referrer">
        <title>{{pageTitle}}</title>
        <style>{{{style}}}</style>
        {{#script}}<noscript><meta http-equiv="refresh" content="10"></noscript>
        {{/script}}</head>

        """

    static let set = """
        {{> head}}
        <body>
        <header>
        {{#content}}{{#set}}
        {{#isInSpool}}<nav aria-label="Spool"><a href="../../index.html">All sets</a></nav>
        {{/isInSpool}}
        <h1><bdi>{{title}}</bdi></h1>
        {{/set}}<p class="quiet">{{count}}</p>
        </header>
        <main>
        {{#set}}{{^empty(notes)}}<section aria-label="Notes">
        {{#notes}}<p class="note"><bdi>{{.}}</bdi></p>
        {{/notes}}</section>
        {{/empty(notes)}}{{/set}}
        <section aria-label="Pictures" class="pictures">
        {{#shown}}<figure>
        <a href="{{address}}"><img src="{{address}}" alt="{{prompt}}" loading="lazy"{{#width}} width="{{width}}" height="{{height}}"{{/width}}></a>
        <figcaption><p class="prompt"><bdi>{{prompt}}</bdi></p>
        <dl class="row">{{#facts}}<div><dt>{{name}}</dt><dd><bdi>{{value}}</bdi></dd></div>{{/facts}}</dl></figcaption>
        {{#overlays}}<p class="overlay"><a href="{{address}}"><img src="{{address}}" alt="{{caption}}" loading="lazy"></a><span class="quiet">{{caption}}</span></p>
        {{/overlays}}</figure>
        {{/shown}}</section>
        {{#left}}<p class="note">{{left}} more pictures are in this folder.</p>
        {{/left}}{{#set}}{{^empty(references)}}<section aria-labelledby="references">
        <h2 id="references">References</h2>
        <ul class="references">
        {{#references}}<li>{{#picture}}<img src="{{address}}" alt="a reference of {{subject}}">{{/picture}}{{#cutOut}}<img class="cutout" src="{{address}}" alt="what was cut out of it">{{/cutOut}}<span><bdi>{{subject}}</bdi>{{^picture}}: it cannot be shown{{/picture}}</span></li>
        {{/references}}</ul>
        </section>
        {{/empty(references)}}<section aria-labelledby="made">
        <h2 id="made">How it was made</h2>
        <dl class="facts">{{#facts}}<div><dt>{{name}}</dt><dd><bdi>{{value}}</bdi></dd></div>
        {{/facts}}</dl>
        {{#sheet}}<p><a href="{{sheet}}">The contact sheet</a></p>
        {{/sheet}}<details><summary>The manifest that makes this again</summary>
        <pre tabindex="0"><code>{{manifest}}</code></pre></details>
        </section>
        {{/set}}</main>
        {{/content}}</body>
        </html>

        """

    static let card = """
        <li class="card">{{#link}}<a href="{{prefix}}{{link}}">{{#picture}}<img src="{{prefix}}{{picture}}" alt="" loading="lazy">{{/picture}}<span class="name"><bdi>{{subjects}}</bdi></span></a>{{/link}}{{^link}}<span class="taken">taken away</span><span class="name"><bdi>{{subjects}}</bdi></span>{{/link}}<span class="words"><bdi>{{prompt}}</bdi></span><span class="quiet">{{count}}, {{time}}</span></li>

        """

    static let archive = """
        {{> head}}
        <body>
        {{#content}}<header>
        <nav aria-label="Pages"><a href="../index.html">Newest</a>{{#newer}} <a href="{{newer}}" rel="next">Newer</a>{{/newer}}{{#older}} <a href="{{older}}" rel="prev">Older</a>{{/older}}</nav>
        <h1>Finished sets, page {{number}}</h1>
        </header>
        <main>
        <ul class="cards">
        {{#sets}}{{> card}}{{/sets}}</ul>
        </main>
        {{/content}}</body>
        </html>

        """

    static let spool = """
        {{> head}}
        <body>
        {{#content}}{{#spool}}<header>
        <h1>DreamCache</h1>
        <p><span class="state {{state}}">{{state}}</span> <span class="quiet">as of <time id="time" data-seconds="{{seconds}}">{{time}}</time></span></p>
        {{#message}}<p class="note" role="status"><bdi>{{message}}</bdi></p>
        {{/message}}</header>
        <main>
        {{#work}}<section aria-labelledby="work" class="work">
        {{#preview}}<img class="preview" src="{{address}}" alt="the picture as it is now">{{/preview}}<div>
        <h2 id="work">At work: <bdi>{{subjects}}</bdi></h2>
        <p class="prompt"><bdi>{{prompt}}</bdi></p>
        <p><label><progress value="{{done}}" max="{{all}}"></progress> <span>{{words}}</span></label></p>
        <p class="quiet">{{job}}</p>
        </div></section>
        {{/work}}{{^empty(waiting)}}<section aria-labelledby="waiting">
        <h2 id="waiting">Waiting</h2>
        <div class="wide" tabindex="0" role="region" aria-labelledby="waiting"><table role="table">
        <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">What</th><th role="columnheader" scope="col">Subjects</th><th role="columnheader" scope="col">Pictures</th><th role="columnheader" scope="col">For</th></tr></thead>
        <tbody role="rowgroup">
        {{#waiting}}<tr role="row"><th role="rowheader" scope="row"><bdi>{{name}}</bdi></th><td role="cell"><bdi>{{subjects}}</bdi></td><td role="cell">{{pictures}}</td><td role="cell"><bdi>{{reason}}</bdi></td></tr>
        {{/waiting}}</tbody></table></div>
        {{#more}}<p class="quiet">and {{more}} more</p>
        {{/more}}</section>
        {{/empty(waiting)}}{{^empty(refused)}}<section aria-labelledby="refused">
        <h2 id="refused">Refused</h2>
        {{#refused}}{{> refusal}}{{/refused}}</section>
        {{/empty(refused)}}{{^empty(failed)}}<section aria-labelledby="failed">
        <h2 id="failed">Failed</h2>
        {{#failed}}{{> refusal}}{{/failed}}</section>
        {{/empty(failed)}}<section aria-labelledby="finished">
        <h2 id="finished">Finished sets</h2>
        {{#empty(finished)}}<p class="quiet">None yet. Drop photos into <code>drop/references/</code> and a manifest into <code>drop/jobs/</code>.</p>
        {{/empty(finished)}}<ul class="cards">
        {{#finished}}{{> card}}{{/finished}}</ul>
        {{#older}}<nav aria-label="Older sets"><a href="{{older}}">All {{finishedCount}} sets</a></nav>
        {{/older}}</section>
        </main>
        {{/spool}}{{/content}}<script>{{{script}}}</script>
        </body>
        </html>

        """

    static let refusal = """
        <details class="refusal"><summary><bdi>{{name}}</bdi>: <bdi>{{reason}}</bdi></summary>
        {{^empty(faults)}}<ul>{{#faults}}<li><bdi>{{.}}</bdi></li>{{/faults}}</ul>
        {{/empty(faults)}}<p><bdi>{{advice}}</bdi></p></details>

        """

    /// Looks again every few seconds, unless somebody is reading, marking or using the keyboard; and says how old the page is.
    static let script = """
        "use strict";
        (() => {
          const time = document.getElementById("time");
          const tell = () => {
            const age = Math.round(Date.now() / 1000 - time.dataset.seconds);
            if (age > 90) time.title = "the daemon has not been heard of for " + Math.round(age / 60) + " min";
            document.body.classList.toggle("old", age > 90);
          };
          tell();
          setInterval(() => {
            tell();
            const isUsed = document.querySelector("details[open], :focus-visible") || String(getSelection());
            if (!document.hidden && !isUsed) location.reload();
          }, 5000);
        })();

        """
}
